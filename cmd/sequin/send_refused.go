package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/feed"
)

// refusedLine is a line of the file of --refused.
type refusedLine struct {
	Line   int64  `json:"line"`
	Offset int64  `json:"offset"`
	Error  string `json:"error"`
	Text   string `json:"text"`
}

// openRefused opens the file of --refused. A run that goes on adds to the list of the earlier ones. Any other file that has
// something in it is left alone: it may be what is sent, or something else that nobody wants to lose.
func (f *fileSend) openRefused() (closeIt func() error, err error) {
	if f.refusedFile == "" {
		return func() error { return nil }, nil
	}
	path, err := filepath.Abs(f.refusedFile)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open --refused: %w", err)
	}
	if err := f.beginList(file, path); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f.list, f.refused = file, bufio.NewWriter(file)
	return func() error {
		if err := errors.Join(f.refused.Flush(), file.Close()); err != nil {
			return fmt.Errorf("cannot write --refused: %w", err)
		}
		return nil
	}, nil
}

// beginList moves to the end of the list. What a killed run has added after its last position is cut off, since this run lists
// these lines again.
func (f *fileSend) beginList(file *os.File, path string) error {
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("cannot open --refused: %w", err)
	}
	if in, ok := f.source().(*os.File); ok {
		if sent, err := in.Stat(); err == nil && os.SameFile(info, sent) && info.Mode().IsRegular() {
			return cli.Usage("--refused must be another file than --file")
		}
	}
	if !info.Mode().IsRegular() { // a pipe or a device has nothing to lose
		return nil
	}
	own := f.saved != nil && f.saved.Refused.File == path
	if !own && info.Size() > 0 {
		return cli.Usage("--refused %s has something in it already: remove it, or give another file", f.refusedFile)
	}
	at := int64(0)
	if own {
		at = min(f.saved.Refused.Size, info.Size())
	}
	if err := file.Truncate(at); err != nil {
		return fmt.Errorf("cannot write --refused: %w", err)
	}
	if _, err := file.Seek(at, io.SeekStart); err != nil {
		return fmt.Errorf("cannot write --refused: %w", err)
	}
	if f.saved != nil {
		f.saved.Refused = feed.List{File: path, Size: at}
	}
	return nil
}

// source returns what is read.
func (f *fileSend) source() io.Reader {
	if f.file == stdin {
		return f.session.in
	}
	return f.input
}

// flushRefused writes the list up to the position that is saved next.
func (f *fileSend) flushRefused() error {
	if f.refused == nil {
		return nil
	}
	if err := f.refused.Flush(); err != nil {
		return fmt.Errorf("cannot write --refused: %w", err)
	}
	if f.saved == nil || f.saved.Refused.File == "" {
		return nil
	}
	at, err := f.list.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("cannot write --refused: %w", err)
	}
	f.saved.Refused.Size = at
	return nil
}

// onRefused lists a line that cannot be sent.
func (f *fileSend) onRefused(r feed.Refused) {
	reason := strings.TrimPrefix(r.Err.Error(), "sequin: ")
	if f.refused != nil {
		_ = cli.JSON(f.refused, refusedLine{r.Line, r.Offset, reason, r.Text}) // Flush returns the error
		return
	}
	if f.printed++; f.printed <= listed {
		fmt.Fprintf(f.session.errors, "line %d: %s: %s\n", r.Line, reason, cli.Cut(r.Text, dataWidth))
	}
}
