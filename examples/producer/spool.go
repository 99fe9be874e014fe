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

// spoolUnsent writes the spool: the messages that failed or that Close left, then those that the Publisher did not accept.
// It returns an error that describes them, or nil when everything was sent.
func (o options) spoolUnsent(left []sequin.MessageError, rest []sequin.Message) error {
	messages := make([]sequin.Message, 0, len(left)+len(rest))
	var first sequin.MessageError
	failed := 0
	for _, e := range left {
		messages = append(messages, e.Message)
		if errors.Is(e.Err, sequin.ErrClosed) {
			continue
		}
		if failed++; failed == 1 {
			first = e
		}
	}
	messages = append(messages, rest...)
	spooled := o.writeSpool(messages)
	if len(messages) == 0 {
		return spooled
	}
	err := fmt.Errorf("%d messages were not sent", len(messages))
	if failed > 0 {
		err = fmt.Errorf("%w; %d failed, the first: %w", err, failed, first)
	}
	switch {
	case spooled != nil:
		return errors.Join(err, spooled)
	case o.spool == "":
		return fmt.Errorf("%w; these were lost, from key %q to key %q: -spool would have kept them", err, messages[0].Key, messages[len(messages)-1].Key)
	}
	return fmt.Errorf("%w; %d messages are in %s and will be sent first at the next start", err, len(messages), o.spool)
}

// writeSpool replaces the spool by these messages, or removes it when there are none. A crash leaves either the old file or
// the new one.
func (o options) writeSpool(messages []sequin.Message) (err error) {
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

// readSpool returns the messages of the spool, or none when the file does not exist.
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
