package cluster_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const secret = "4111-1111"

// A look at a key shows the row, what it becomes and what is there, on every node, and never a value that the mapping masks.
func TestKey_CheckShowsBothSidesAndHidesWhatIsMasked(t *testing.T) {
	place := services.Require(t)
	w := newTable(t, place.MySQLDSN, place.RedisAddr, place.Prefix)
	w.c = harness.Start(t, harness.Options{MySQL: place.MySQLDSN, Redis: place.RedisAddr})
	mapping := map[string]any{"source": "main", "target": "cache", "table": "items", "primary_key": []string{"id"}, "mode": "write_through", "encoding": "json",
		"key": w.prefix + "shown:{id}", "columns": []map[string]any{{"name": "id"}, {"name": "name", "mask": true}, {"name": "n"}}}
	w.c.Must(harness.Request{Method: http.MethodPut, Path: "/v1/mappings/shown", Body: mapping}, nil)
	w.exec("INSERT INTO items VALUES (7, ?, 41)", secret)
	w.redisDo("SET", w.prefix+"shown:7", `{"id":7,"name":"`+secret+`","n":40}`)
	for _, node := range w.c.Nodes {
		answer, err := w.c.Caller(node).Do(t.Context(), harness.Request{Method: http.MethodPost, Path: "/v1/keys/check", Body: map[string]any{"mapping": "shown", "pk": []int{7}}})
		if err != nil {
			t.Fatal(err)
		}
		var check api.KeyCheck
		if err := answer.Into(&check); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(answer.Body), secret) {
			t.Errorf("the masked value is shown: %s", answer.Body)
		}
		if len(check.Keys) != 1 || check.Keys[0].Verdict != "stale" || !strings.Contains(check.Keys[0].Want, "41") || !strings.Contains(check.Keys[0].Have, "40") || check.Row == nil {
			t.Errorf("%s", answer.Body)
		}
	}

	// A second mapping that could render the same key is refused: each would take the other's values for stale.
	mapping["key"] = w.prefix + "shown:{n}"
	mapping["key_columns"] = []string{"n"}
	answer, err := w.c.Caller(w.c.Nodes[0]).Do(t.Context(), harness.Request{Method: http.MethodPut, Path: "/v1/mappings/other", Body: mapping})
	if err != nil {
		t.Fatal(err)
	}
	if problem := answer.Problem(); answer.Status/100 != 4 || !strings.Contains(problem.Detail+string(answer.Body), "shown") {
		t.Errorf("a mapping whose keys overlap with another's: %d %s", answer.Status, answer.Body)
	}
}
