package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/sequin-go/sequin"
)

// rejects tells what cannot be sent, one by one: on stderr the first few, in a file all.
type rejects struct {
	stderr io.Writer
	before string   // what goes before a line: on a terminal, it clears the progress
	file   *os.File // nil: none

	mu    sync.Mutex // guards all below, and keeps lines apart
	n     int64
	wrote error // the first failure to write the file
}

// shownRejects is how many are told on stderr: enough to see what is wrong, few enough not to scroll it away.
const shownRejects = 10

func newRejects(path string, stderr io.Writer, live bool) (*rejects, error) {
	r := &rejects{stderr: stderr}
	if live {
		r.before = clearLine
	}
	if path == "" {
		return r, nil
	}
	var err error
	r.file, err = os.Create(path)
	return r, err
}

// add takes a message, or what was to become one; number is that of its record, 0 when it is known by its key alone.
func (r *rejects) add(m sequin.Message, why error, number int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n++; r.n <= shownRejects {
		what := ""
		if number > 0 {
			what = fmt.Sprintf("record %d: ", number)
		}
		if m.Key != "" {
			what += fmt.Sprintf("key %.64q: ", m.Key)
		}
		fmt.Fprintf(r.stderr, "%srejected: %s%v\n", r.before, what, why)
	}
	if r.n == shownRejects+1 {
		fmt.Fprintf(r.stderr, "%smore are rejected; -rejects writes them to a file\n", r.before)
	}
	if r.file == nil {
		return
	}
	err := json.NewEncoder(r.file).Encode(struct {
		sequin.Message
		Error string `json:"error"`
	}{m, why.Error()})
	if r.wrote == nil {
		r.wrote = err
	}
}

func (r *rejects) count() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// close says how many there were, as an error.
func (r *rejects) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	if r.n > 0 {
		err = fmt.Errorf("%d records were rejected", r.n)
	}
	if r.file != nil {
		err = errors.Join(err, r.wrote, r.file.Close())
	}
	return err
}
