package client

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/quiescehq/quiesce/api"
)

var batchAnswers = []string{
	`{"results":[]}`,
	`{"results":[{"status":204,"index":7}]}`,
	"{ \"$schema\" : \"x\" , \"results\" : [ { \"status\" : 200 , \"body\" : { \"a\" : [ 1 , \"]}\\\"\" ] , \"b\" : null } } ,\n{\"status\":409,\"index\":9,\"problem\":{\"type\":\"about:blank\",\"title\":\"t\",\"status\":409,\"code\":\"lock_held\",\"token\":3}} ] , \"later\" : { } }\n",
	`{"results":[{"status":200,"body":"text"},{"status":200,"body":-1.5e3},{"status":200,"body":[]},{"status":200,"body":true}]}`,
}

func TestResults_AreReadAsTheStandardLibraryReadsThem(t *testing.T) {
	t.Parallel()
	for _, text := range batchAnswers {
		checkResults(t, []byte(text))
		for cut := range text {
			if results, err := readResults([]byte(text[:cut]), 0); err == nil && !json.Valid([]byte(text[:cut])) && len(results) > 0 {
				t.Errorf("%s: half an answer gave %v", text[:cut], results)
			}
		}
	}
}

// checkResults compares where the standard library reads anything.
func checkResults(t *testing.T, text []byte) {
	t.Helper()
	var want api.BatchAnswer
	if json.Unmarshal(text, &want) != nil {
		return
	}
	got, err := readResults(text, len(want.Results))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	for i, r := range got {
		if !reflect.DeepEqual(r, want.Results[i]) {
			t.Errorf("%s: result %d is %+v, want %+v", text, i, r, want.Results[i])
		}
	}
}

func FuzzResults(f *testing.F) {
	for _, text := range batchAnswers {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = readResults(text, 1) // whatever a proxy sends, it neither panics nor hangs
	})
}
