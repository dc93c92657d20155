package figure

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

// Place is where and with what was measured.
type Place struct {
	cores   int
	load    string
	memory  bool // the folder is in memory
	modules map[string]string
}

// compared are the modules whose version matters, where a command has them.
var compared = []struct{ name, path string }{{"etcd", "go.etcd.io/etcd/server/v3"}, {"go-redis", "github.com/redis/go-redis/v9"}}

const tmpfsMagic = 0x01021994

// PlaceOf describes the machine, and the folder that data is written to.
func PlaceOf(dir string) Place {
	p := Place{cores: runtime.NumCPU(), load: "unknown", modules: map[string]string{}}
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

func (p Place) String() string {
	text := fmt.Sprintf("%d cores, load %s before the start, %s", p.cores, p.load, runtime.Version())
	for _, m := range compared {
		if version := p.modules[m.path]; version != "" {
			text += ", " + m.name + " " + version
		}
	}
	text += "."
	if p.memory {
		text += " THE FOLDER IS IN MEMORY: nothing was synced to a disk, choose another with -dir."
	}
	return text
}
