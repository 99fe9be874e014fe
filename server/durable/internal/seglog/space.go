package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// spaceEvery is how often the system is asked at most how much is free.
const spaceEvery = time.Second

// space keeps the spare segment, and says whether there is room for messages. This file takes its lock.
type space struct {
	fs     vfs.FS
	dir    string
	path   func(name string) string
	size   int64 // of the spare
	min    int64
	logger *slog.Logger

	mu      sync.Mutex
	asked   time.Time
	full    bool          // from min until 1.2 times as much
	left    int64         // what was free when the system was asked
	spare   bool          // the file exists
	problem error         // why there is none
	making  chan struct{} // closed when the spare is made; nil when none is being made
}

// free returns store.ErrDiskFull, wrapped, when there is too little room for messages.
func (s *space) free() error {
	if s.due() {
		left, _, err := s.fs.Space(s.dir)
		s.answered(left, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.full:
		return fmt.Errorf("%w: %s has %d bytes free, and keeps %d for receives and acks", store.ErrDiskFull, s.dir, s.left, s.min)
	case s.problem != nil:
		return writeFailure("make", spareFile, s.problem)
	}
	return nil
}

// due reports whether this caller has to ask the system.
func (s *space) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.asked.IsZero() && now.Sub(s.asked) < spaceEvery {
		return false
	}
	s.asked = now
	return true
}

// answered takes the answer of the system. A system that does not know is not full: the next write says what is wrong.
func (s *space) answered(left int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.logger.Warn("cannot find out how much room is left", "dir", s.dir, "error", err)
		return
	}
	enough := s.min
	if s.full {
		enough += s.min / 5
	}
	s.left = left
	if full := left < enough; full != s.full {
		s.full = full
		s.logger.Warn("room for messages changed", "full", full, "free", left, "min_free", s.min)
	}
	if s.problem != nil && !s.full && s.making == nil {
		s.start()
	}
}

// prepare starts to make the spare, if there is none.
func (s *space) prepare() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.spare && s.making == nil {
		s.start()
	}
}

// start makes the spare in a goroutine of its own, which ends with that. It requires the lock.
func (s *space) start() {
	made := make(chan struct{})
	s.making = made
	go func() {
		err := s.make()
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil && s.problem == nil {
			s.logger.Warn("the next segment cannot be made: sends are refused", "error", err)
		}
		s.spare, s.problem, s.making = err == nil, err, nil
		close(made)
	}()
}

// make makes the file of the spare. It gets its name when it has its size.
func (s *space) make() error {
	err := makeSegment(s.fs, s.path(spareNew), s.size)
	if err == nil {
		err = s.fs.Rename(s.path(spareNew), s.path(spareFile))
	}
	if err == nil {
		return s.fs.SyncDir(s.dir)
	}
	// What was allocated is needed by others.
	if removed := s.fs.Remove(s.path(spareNew)); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return err
}

// makeSegment makes a file of zeros with that size.
func makeSegment(fsys vfs.FS, path string, size int64) error {
	f, err := fsys.Create(path)
	if err != nil {
		return err
	}
	if err = f.Allocate(size); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// take makes the file of the segment with that name and size, from the spare if there is one.
func (s *space) take(name string, size int64) (vfs.File, error) {
	s.wait()
	if err := s.rename(name); err != nil {
		return nil, err
	}
	f, err := s.fs.OpenWrite(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = s.fs.Create(s.path(name))
	}
	if err != nil {
		return nil, err
	}
	if err := allocateMore(f, size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// rename gives the spare the name of a segment, unless there is no spare.
func (s *space) rename(name string) error {
	s.mu.Lock()
	had := s.spare
	s.spare = false
	s.mu.Unlock()
	if !had {
		return nil
	}
	return s.fs.Rename(s.path(spareFile), s.path(name))
}

// giveBack makes the spare of a segment's file that was not used, or removes it.
func (s *space) giveBack(f vfs.Info) error {
	s.wait()
	s.mu.Lock()
	removes := s.spare || f.Size < s.size
	s.mu.Unlock()
	if removes {
		return s.fs.Remove(s.path(f.Name))
	}
	if err := s.fs.Rename(s.path(f.Name), s.path(spareFile)); err != nil {
		return err
	}
	s.found()
	return nil
}

// wait waits until no spare is being made.
func (s *space) wait() {
	s.mu.Lock()
	making := s.making
	s.mu.Unlock()
	if making != nil {
		<-making
	}
}

// ensure makes the spare if there is none, and returns why it could not be made.
func (s *space) ensure() error {
	s.prepare()
	s.wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem
}

// found notes that the directory has a spare.
func (s *space) found() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare, s.problem = true, nil
}
