package harness

import (
	"bytes"
	"io"
	"net/http"

	"github.com/quiescehq/quiesce/api"
)

// Backup takes a backup through a node.
func (c *Cluster) Backup(through *Node) []byte {
	c.t.Helper()
	answer, err := c.client.Get("http://" + through.HTTPAddr + "/v1/cluster/backup")
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, api.BackupBytesMax))
	if err != nil || answer.StatusCode != http.StatusOK {
		c.t.Fatalf("backup through %s: %d %v", through.ID, answer.StatusCode, err)
	}
	return text
}

// Restore sends a backup to a node, once.
func (c *Cluster) Restore(through *Node, backup []byte) (Answer, error) {
	answer, err := c.client.Post("http://"+through.HTTPAddr+"/v1/cluster/restore?reason=test", api.ContentBackup, bytes.NewReader(backup))
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, answerBytesMax))
	return Answer{Status: answer.StatusCode, Header: answer.Header, Body: text}, err
}
