package server

import (
	"net/http"
	"strings"
	"time"
)

// consolePath is the path of Config.Console. All paths below it are its own, too.
const consolePath = "/console"

// isConsole reports whether the request is for the console that the server has.
func (c *call) isConsole() bool {
	rest, ok := strings.CutPrefix(c.r.URL.Path, consolePath)
	return c.srv.console != nil && ok && (rest == "" || rest[0] == '/')
}

// showConsole lets the console answer.
func (c *call) showConsole() error {
	if isRead(c.r) {
		c.answered.Route = "GET console"
	} else if c.r.Method == http.MethodPost {
		c.answered.Route = "POST console"
	}
	w := &consoleWriter{ResponseWriter: c.w, call: c}
	if c.r.Header.Get("Accept") == "text/event-stream" {
		defer c.waited(time.Now()) // for the next event, nearly all the time
	}
	c.srv.console.ServeHTTP(w, c.r)
	w.begin(http.StatusOK) // the status of an answer without a body
	return nil
}

// consoleWriter counts what the console answers.
type consoleWriter struct {
	http.ResponseWriter
	call *call
}

// Unwrap is for http.ResponseController.
func (w *consoleWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *consoleWriter) begin(status int) {
	if w.call.answered.Status == 0 {
		w.call.answered.Status = status
	}
}

func (w *consoleWriter) WriteHeader(status int) {
	w.begin(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *consoleWriter) Write(p []byte) (int, error) {
	w.begin(http.StatusOK)
	n, err := w.ResponseWriter.Write(p)
	w.call.answered.BytesOut += int64(n)
	return n, err
}
