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

// rejects reports the records that can never be sent: the first few on stderr, and all of them in a file.
type rejects struct {
	stderr io.Writer
	before string   // precedes a line; on a terminal, it clears the progress
	file   *os.File // nil if there is none

	mu    sync.Mutex // guards all below, and keeps lines whole
	n     int64
	wrote error // the first error of writing the file
}

// shownRejects is how many are printed on stderr: enough to see what is wrong, few enough to stay on the screen.
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

// add reports a record. m may be incomplete. number is that of the record, or 0 if only its key is known.
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
		fmt.Fprintf(r.stderr, "%sfurther rejected records are not shown; -rejects writes them to a file\n", r.before)
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

// close closes the file. Its error says how many records were rejected.
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
