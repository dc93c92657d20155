package httpapi

import (
	"net/http"

	"github.com/quiescehq/quiesce/api"
)

// WriteProblem answers as the edge does when it refuses: for what stands in front of one.
func WriteProblem(w http.ResponseWriter, code api.Code, detail string) {
	problem(code, detail).writeTo(w)
}
