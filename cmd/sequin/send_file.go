package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/feed"
	"github.com/sequin-go/sequin/cmd/sequin/internal/progress"
)

const (
	// keyWindow is how long after an interruption a server stores a batch that is sent again once. Servers remember a key for 10
	// minutes from when they have stored its batch, which may be a minute before the position behind it is saved.
	keyWindow = 9 * time.Minute
	// listed is how many lines that cannot be sent are printed without --refused.
	listed = 20
	// bursts is how many batches a second --rate sends.
	bursts = 10
)

// fileSend is a send with --file.
type fileSend struct {
	file, template, refusedFile string
	rate                        int
	restart                     bool

	session *session
	input   *os.File // nil for the standard input
	size    int64
	saved   *feed.Checkpoint // nil for the standard input
	unlock  func()           // lets other processes send the file
	begun   feed.Position    // where this run begins
	doubted int64            // messages of the file up to the last that an earlier run may have stored
	list    *os.File         // of --refused; nil without
	refused *bufio.Writer    // writes to it
	printed int              // refused lines that were listed without --refused
	now     atomic.Pointer[feed.Position]
}

// fileResult is the result as --json prints it.
type fileResult struct {
	Sent    int64 `json:"sent"`
	Refused int64 `json:"refused"`
	Offset  int64 `json:"offset"`
	Line    int64 `json:"line"`
	Done    bool  `json:"done"`
}

func (f *fileSend) run(ctx context.Context, s *session, stream string) (err error) {
	f.session, f.unlock = s, func() {}
	parse := feed.ParseMessage
	if f.template != "" {
		if parse, err = feed.KeyTemplate(f.template); err != nil {
			return cli.Usage("invalid --key: %v", err)
		}
	}
	found, err := s.client.GetStream(ctx, stream) // before a file is opened and a checkpoint made
	if err != nil {
		return err
	}
	cfg := feed.Config{Parse: parse, Lines: f.lines(), OnRefused: f.onRefused, OnProgress: f.onProgress}
	defer func() { f.unlock() }()
	if err := f.open(&cfg, found.Name); err != nil {
		return err
	}
	defer f.input.Close()
	closeRefused, err := f.openRefused()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeRefused()) }()
	if err := f.saveBegin(ctx, cfg.Lines); err != nil {
		return err
	}
	network, closeNetwork := s.network()
	defer closeNetwork()
	client, err := s.target.Client(keyed{network})
	if err != nil {
		return err
	}
	cfg.Send = func(ctx context.Context, key string, messages []sequin.Message) error {
		_, err := client.SendMessages(withKey(ctx, key), found.ID, messages)
		return err
	}
	if f.rate > 0 {
		cfg.Wait = rate.NewLimiter(rate.Limit(f.rate), cfg.Lines).WaitN
	}
	return f.feed(ctx, cfg)
}

// lines returns how many lines a batch has. With --rate batches are small, so that the messages come evenly.
func (f *fileSend) lines() int {
	if f.rate == 0 {
		return sequin.MaxBatch
	}
	return min(sequin.MaxBatch, max(1, f.rate/bursts))
}

// open opens the input at the position of the checkpoint.
func (f *fileSend) open(cfg *feed.Config, stream string) error {
	if f.file == stdin {
		cfg.Input, cfg.ID, cfg.Live = f.session.in, uuid.NewString(), true
		return nil
	}
	path, err := filepath.Abs(f.file)
	if err != nil {
		return err
	}
	if f.input, err = os.Open(f.file); errors.Is(err, fs.ErrNotExist) {
		return cli.NotFound("cannot open --file: %w", err)
	} else if err != nil {
		return fmt.Errorf("cannot open --file: %w", err)
	}
	info, err := f.input.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = cli.Usage("--file must be a regular file: for a pipe use --file -")
	}
	if err != nil {
		return errors.Join(err, f.input.Close())
	}
	f.size = info.Size()
	if err := f.findCheckpoint(cfg, feed.Source{File: path, URL: f.session.target.URL, Stream: stream, Template: f.template}); err != nil {
		return errors.Join(err, f.input.Close())
	}
	return nil
}

// findCheckpoint reads or makes the checkpoint of the file, and moves the input to its position.
func (f *fileSend) findCheckpoint(cfg *feed.Config, source feed.Source) error {
	dir, err := cli.UserDir(f.session.lookup, "XDG_STATE_HOME", ".local", "state")
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, "sends")
	if f.saved, err = feed.New(dir, source, cfg.Lines); err != nil {
		return err
	}
	unlock, err := f.saved.Lock()
	if errors.Is(err, feed.ErrLocked) {
		return fmt.Errorf("%s: %w: wait for it, or stop it first", f.file, err)
	}
	if err != nil {
		return notSaved(err)
	}
	f.unlock = unlock
	if !f.restart {
		f.saved, err = feed.Resume(dir, source, f.input, cfg.Lines)
	}
	switch {
	case errors.Is(err, feed.ErrChanged):
		return fmt.Errorf("%s: %w: send it from the beginning with --restart", f.file, err)
	case errors.Is(err, feed.ErrDamaged):
		return fmt.Errorf("cannot read how far %s is sent: %w: send it from the beginning with --restart", f.file, err)
	case err != nil:
		return fmt.Errorf("cannot read how far %s is sent: %w: make it readable, or set $XDG_STATE_HOME to another directory", f.file, err)
	}
	f.begun = f.saved.At
	if f.begun.Offset > 0 {
		fmt.Fprintf(f.session.errors, "going on after line %d of %s: %s are sent already\n", f.begun.Line, f.file, cli.Plural(f.begun.Sent, "message"))
	}
	f.doubted = f.begun.Sent + f.begun.InFlight
	cfg.Input, cfg.ID, cfg.Lines, cfg.Start = f.input, f.saved.ID, f.saved.Lines, f.begun
	_, err = f.input.Seek(f.begun.Offset, io.SeekStart)
	return err
}

// feed sends the input and says how far it came. The first signal lets what is in flight finish, and the second cuts it off.
func (f *fileSend) feed(ctx context.Context, cfg feed.Config) error {
	sendCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ctx.Done():
		case <-ended:
			return
		}
		select {
		case <-f.session.signals:
			cancel()
		case <-ended:
		}
	}()
	f.now.Store(&f.begun)
	bar := progress.Start(f.session.errors, f.session.terminal && !f.session.json, "messages", f.state)
	at, err := feed.Run(ctx, sendCtx, cfg)
	bar.Stop()
	return f.conclude(ctx, at, err)
}

func (f *fileSend) state() progress.State {
	at := f.now.Load()
	part := -1.0
	if f.size > 0 {
		part = min(1, float64(at.Offset)/float64(f.size))
	}
	return progress.State{Count: at.Sent, Part: part}
}

// conclude saves the position, or removes the checkpoint of a file that is sent, and prints the result.
func (f *fileSend) conclude(ctx context.Context, at feed.Position, err error) error {
	complete := err == nil
	kept := f.keep(at, complete)
	if complete {
		err = f.refusals(at.Refused)
	} else {
		stopped := fmt.Sprintf("stopped after line %d of %s", at.Line, f.name())
		if f.saved != nil && kept == nil {
			stopped += ": the same command goes on there"
		}
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = errors.New(stopped)
		} else {
			err = fmt.Errorf("%w: %s", err, stopped)
		}
	}
	if errors.Is(err, errNotSaved) {
		kept = nil // the error is there already
	}
	result := fileResult{at.Sent, at.Refused, at.Offset, at.Line, complete}
	return errors.Join(err, kept, done(f.session, result, "sent %s of %s", cli.Plural(at.Sent, "message"), cli.Plural(at.Line, "line")))
}

// name is the name of the input for people.
func (f *fileSend) name() string {
	if f.saved == nil {
		return "the standard input"
	}
	return f.file
}

// refusals returns the error of a file with lines that could not be sent.
func (f *fileSend) refusals(n int64) error {
	where := "listed above"
	switch {
	case n == 0:
		return nil
	case f.refusedFile != "":
		where = "listed in " + f.refusedFile
	case n > listed:
		where = fmt.Sprintf("of which the first %d are listed above: list all with --refused", listed)
	}
	return fmt.Errorf("%s could not be sent, %s", cli.Plural(n, "line"), where)
}

// onProgress saves the position.
func (f *fileSend) onProgress(at feed.Position) error {
	f.now.Store(&at)
	return f.save(at)
}
