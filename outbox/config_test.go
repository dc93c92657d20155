package outbox

import (
	"errors"
	"strings"
	"testing"
)

func TestConfig_DefaultIsValid(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfig_EveryFaultIsReported(t *testing.T) {
	t.Parallel()
	err := Config{}.Validate()
	if !errors.Is(err, ErrConfig) {
		t.Fatalf("%v does not wrap ErrConfig", err)
	}
	for _, word := range []string{"batch rows", "batches", "probe rows", "call timeout", "propose timeout", "attempts", "backoff base", "breaker failures", "breaker pause", "recent rows"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("nothing is said about %q in: %v", word, err)
		}
	}
	if _, err := New(Config{}, nil, Places{}, nil); !errors.Is(err, ErrConfig) {
		t.Errorf("New took an empty configuration: %v", err)
	}
}
