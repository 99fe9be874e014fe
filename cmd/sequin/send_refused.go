package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
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

// openRefused opens the file of --refused. A run that goes on adds to it.
func (f *fileSend) openRefused() (closeIt func() error, err error) {
	if f.refusedFile == "" {
		return func() error { return nil }, nil
	}
	mode := os.O_TRUNC
	if f.begun.Offset > 0 {
		mode = os.O_APPEND
	}
	file, err := os.OpenFile(f.refusedFile, os.O_CREATE|os.O_WRONLY|mode, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open --refused: %w", err)
	}
	f.refused = bufio.NewWriter(file)
	return func() error {
		if err := errors.Join(f.refused.Flush(), file.Close()); err != nil {
			return fmt.Errorf("cannot write --refused: %w", err)
		}
		return nil
	}, nil
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
