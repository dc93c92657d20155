package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

// place is where and with what was measured.
type place struct {
	cores   int
	load    string
	memory  bool // the folder is in memory
	modules map[string]string
}

const tmpfsMagic = 0x01021994

func placeOf(dir string) place {
	p := place{cores: runtime.NumCPU(), load: "unknown", modules: map[string]string{}}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		p.load = strings.Join(strings.Fields(string(text))[:1], " ")
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err == nil {
		p.memory = int64(fs.Type) == tmpfsMagic
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			p.modules[m.Path] = m.Version
		}
	}
	return p
}

func (p place) String() string {
	text := fmt.Sprintf("%d cores, load %s before the start, %s, etcd %s, go-redis %s.", p.cores, p.load, runtime.Version(),
		p.modules["go.etcd.io/etcd/server/v3"], p.modules["github.com/redis/go-redis/v9"])
	if p.memory {
		text += " THE FOLDER IS IN MEMORY: nothing was synced to a disk, choose another with -dir."
	}
	return text
}
