package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

const bodyMaxBytes = 64 << 10

// errResent unmasks a cut: net/http sends a read again by itself when its connection broke.
var errResent = errors.New("the connection broke and the request was sent again")

// Exchange sends one request, whose body is JSON unless it is nil, and reads the answer. An error is one of the connection.
func Exchange(ctx context.Context, through *http.Client, method, url string, body any) (int, []byte, error) {
	payload := []byte(nil)
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	sent := atomic.Int32{}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Add(1) }})
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(payload))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	response, err := through.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, bodyMaxBytes))
	if err == nil && sent.Load() > 1 {
		err = errResent
	}
	return response.StatusCode, answer, err
}
