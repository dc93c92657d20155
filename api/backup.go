package api

// ContentBackup is the media type of a backup, in GET /v1/cluster/backup and POST /v1/cluster/restore.
const ContentBackup = "application/octet-stream"

// BackupBytesMax bounds a backup that a node reads. It is about what a state of the largest size comes to.
const BackupBytesMax = 1 << 30

// Refusals of a restore. Nothing has changed.
const (
	CodeBackupDamaged   Code = "backup_damaged"
	CodeBackupNewer     Code = "backup_newer"
	CodeTokensExhausted Code = "tokens_exhausted"
	CodeRestoreRunning  Code = "restore_running"
)

// BackupInfo says what a backup holds. Its file begins with a line of its format, then this as a line of JSON, and ends with the SHA-256
// of all that precedes, 32 bytes: it can be looked at and checked with head and sha256sum.
type BackupInfo struct {
	Cluster  string `json:"cluster" doc:"Id of the cluster that it was taken of"`
	NowMs    uint64 `json:"now_ms" doc:"Cluster time"`
	Revision uint64 `json:"revision"`
	Token    uint64 `json:"token" doc:"The last that was given"`
	Digest   string `json:"digest" doc:"Of the state"`
}

// Restored answers POST /v1/cluster/restore.
type Restored struct {
	DryRun   bool       `json:"dry_run" doc:"Nothing was changed"`
	Index    uint64     `json:"index" doc:"Revision of the restored state"`
	Token    uint64     `json:"token" doc:"Every token that is given from now on is greater"`
	Backup   BackupInfo `json:"backup"`
	Sessions int        `json:"sessions" doc:"That the backup holds: each has its full TTL from now on"`
	Locks    int        `json:"locks" doc:"Grants that the backup holds"`
	Events   int        `json:"events" doc:"Pending events that the backup holds"`
}
