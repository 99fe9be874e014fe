package seglog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// WriteSnapshot writes a snapshot of the caller's state. Replay will start at from: f must write all that the records below
// from make, and may write what later ones make if Replay's caller can tell. Everything that is appended when f returns is
// synced before the snapshot counts. The newest two snapshots are kept. Concurrent calls wait for one another. An error
// leaves the snapshots that exist as they are and does not fail the log.
func (l *Log) WriteSnapshot(ctx context.Context, from Pos, f func(io.Writer) error) error {
	select {
	case l.snapshots.writing <- struct{}{}:
		defer func() { <-l.snapshots.writing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	h := snapshotHead{store: l.store, from: from, opening: l.opening}
	if err := l.writeSnapshot(ctx, &h, f); err != nil {
		_ = l.o.FS.Remove(l.path(h.name() + snapshotNew))
		return fmt.Errorf("write %s: %w", h.name(), err)
	}
	kept := l.snapshots.list.Load()
	list := []snapshotHead{h}
	for _, old := range *kept {
		if old.from != h.from && len(list) < snapshotsKept {
			list = append(list, old)
		}
	}
	l.snapshots.list.Store(&list)
	return l.removeSnapshots(list)
}

func (l *Log) writeSnapshot(ctx context.Context, h *snapshotHead, f func(io.Writer) error) error {
	file, err := l.o.FS.Create(l.path(h.name() + snapshotNew))
	if err != nil {
		return err
	}
	defer file.Close()
	w := &blockWriter{file: file, seed: l.seed, at: snapshotHeader}
	if _, err := w.Write(l.removed.encode()); err != nil {
		return err
	}
	b := w.buffered()
	if err := f(b); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	if err := l.Sync(ctx); err != nil {
		return err
	}
	h.until, h.size = l.Durable(), w.at
	if _, err := file.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := l.o.FS.Rename(l.path(h.name()+snapshotNew), l.path(h.name())); err != nil {
		return err
	}
	return l.o.FS.SyncDir(l.dir)
}

// removeSnapshots removes the files of snapshots that are not in the list.
func (l *Log) removeSnapshots(list []snapshotHead) error {
	files, err := l.o.FS.List(l.dir)
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, h := range list {
		kept[h.name()] = true
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name, snapshotPrefix) && !kept[f.Name] {
			if err := l.o.FS.Remove(l.path(f.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadSnapshot calls f for the newest snapshot that is whole, and returns where Replay must start. Without a snapshot it
// returns 0 and does not call f. Open has logged and left out those that
// are damaged. An error of f is returned as it is.
func (l *Log) ReadSnapshot(f func(io.Reader) error) (from Pos, err error) {
	l.base = 0
	list := *l.snapshots.list.Load()
	if len(list) == 0 {
		return 0, nil
	}
	r, err := l.openSnapshot(list[0])
	if err != nil {
		return 0, err
	}
	defer r.file.Close()
	removed, err := r.next()
	if err != nil {
		return 0, err
	}
	l.removed.decode(removed)
	l.base = list[0].from
	return l.base, f(r)
}

// KeepFrom returns the position from which the log must be kept, so that it can be opened from any one of the snapshots.
// Without two of them that is 0, which is the whole log.
func (l *Log) KeepFrom() Pos {
	list := *l.snapshots.list.Load()
	if len(list) < snapshotsKept {
		return 0
	}
	return list[len(list)-1].from
}

// openSnapshot returns a reader of the blocks.
func (l *Log) openSnapshot(h snapshotHead) (*blockReader, error) {
	file, err := l.o.FS.Open(l.path(h.name()))
	if err != nil {
		return nil, err
	}
	return &blockReader{file: file, name: h.name(), seed: l.seed, at: snapshotHeader, end: h.size}, nil
}

// loadSnapshots reads all snapshots, and keeps the headers of those that are whole, newest first.
func (l *Log) loadSnapshots(files []vfs.Info) error {
	list := []snapshotHead{}
	for i := len(files) - 1; i >= 0; i-- {
		name := files[i].Name
		if !strings.HasPrefix(name, snapshotPrefix) || strings.HasSuffix(name, snapshotNew) {
			continue
		}
		h, err := l.checkSnapshot(files[i])
		switch {
		case err == nil:
			list = append(list, h)
		case errors.Is(err, store.ErrDamaged):
			l.o.Logger.Warn("a snapshot is damaged; the one before it is used", "error", err)
		default:
			return err
		}
	}
	l.snapshots.list.Store(&list)
	return nil
}

// checkSnapshot reads a whole snapshot.
func (l *Log) checkSnapshot(info vfs.Info) (h snapshotHead, err error) {
	file, err := l.o.FS.Open(l.path(info.Name))
	if err != nil {
		return h, err
	}
	defer file.Close()
	b, err := readAt(file, make([]byte, snapshotHeader), 0)
	if err != nil {
		return h, err
	}
	h, err = decodeSnapshotHead(b)
	if errors.Is(err, errBad) || err == nil && (h.store != l.store || h.name() != info.Name || h.size != info.Size) {
		return h, &store.DamagedError{File: info.Name}
	}
	if err != nil {
		return h, err
	}
	r := blockReader{file: file, name: info.Name, seed: l.seed, at: snapshotHeader, end: h.size}
	return h, r.verify()
}
