package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/feed"
)

// saveBegin says what may be stored twice, and saves the position before the first batch, so that a run after a kill knows the
// keys of the batches.
func (f *fileSend) saveBegin(ctx context.Context, lines int) error {
	if f.saved == nil {
		return nil
	}
	f.warn(ctx)
	at := f.begun
	at.InFlight = feed.MaxInFlight(lines)
	return f.save(at)
}

// warn says how many messages may be stored twice, and why.
func (f *fileSend) warn(ctx context.Context) {
	if f.begun.InFlight == 0 {
		return
	}
	reason := "this server does not recognise what it has stored"
	if knowsKeys(ctx, f.session.client) {
		ago := time.Since(f.saved.Since)
		if ago >= 0 && ago <= keyWindow {
			return
		}
		reason = "servers recognise what they have stored for 10 minutes, and the last run ended before that"
	}
	fmt.Fprintf(f.session.errors, "up to %s may be stored twice, which were in flight when the last run ended: %s\n", cli.Plural(f.begun.InFlight, "message"), reason)
}

// knowsKeys reports whether the server is known to store a send with the idempotency key of another one once.
func knowsKeys(ctx context.Context, c *sequin.Client) bool {
	info, err := c.Ping(ctx)
	return err == nil && info.Kind == sequin.ServerExtended
}

// save saves the position, after the lines before it that are refused. What an earlier run may have stored does not get younger.
func (f *fileSend) save(at feed.Position) error {
	if err := f.flushRefused(); err != nil || f.saved == nil {
		return err
	}
	if at.Sent >= f.doubted {
		f.saved.Since = time.Now()
	}
	return notSaved(f.saved.Save(f.input, at))
}

// keep saves the position for a later run, which a file that is sent does not need.
func (f *fileSend) keep(at feed.Position, complete bool) error {
	switch {
	case f.saved == nil:
		return nil
	case complete:
		return notSaved(f.saved.Remove())
	}
	return f.save(at)
}

// errNotSaved is the error of a position that cannot be saved.
var errNotSaved = errors.New("cannot save how far the file is sent")

func notSaved(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w: set $XDG_STATE_HOME to a directory that can be written", errNotSaved, err)
}
