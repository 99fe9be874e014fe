package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sequin-go/sequin"
)

// spoolAway replaces the spool by these messages, or removes it when there are none. A crash leaves either the old file or
// the new one.
func (o options) spoolAway(messages []sequin.Message) (err error) {
	if o.spool == "" {
		return nil
	}
	if len(messages) == 0 {
		if err := os.Remove(o.spool); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(o.spool), filepath.Base(o.spool)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("spooling %d messages: %w", len(messages), errors.Join(err, os.Remove(f.Name())))
		}
	}()
	w := bufio.NewWriter(f)
	encode := json.NewEncoder(w)
	for _, m := range messages {
		if err := encode.Encode(m); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := errors.Join(w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), o.spool)
}

// readSpool returns the messages of the spool, none when there is no such file.
func (o options) readSpool() (messages []sequin.Message, err error) {
	if o.spool == "" {
		return nil, nil
	}
	f, err := os.Open(o.spool)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	decode := json.NewDecoder(f)
	for {
		var m sequin.Message
		err := decode.Decode(&m)
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s, after message %d: %w", o.spool, len(messages), err)
		}
		messages = append(messages, m)
	}
}
