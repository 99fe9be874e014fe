package seglog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
)

// removedSet are the segments that Remove has removed. This file takes its lock.
type removedSet struct {
	mu      sync.Mutex
	numbers map[uint32]bool
}

// encode returns the numbers as records and snapshots hold them: the size of
// what follows, and ranges of a first and a last number, ascending; all are u32.
func (r *removedSet) encode() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return encodeNumbers(slices.Sorted(maps.Keys(r.numbers)))
}

func encodeNumbers(sorted []uint32) []byte {
	b := make([]byte, 4)
	for i := 0; i < len(sorted); {
		first := i
		for i++; i < len(sorted) && sorted[i] == sorted[i-1]+1; i++ {
		}
		b = binary.LittleEndian.AppendUint32(b, sorted[first])
		b = binary.LittleEndian.AppendUint32(b, sorted[i-1])
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// decode adds the numbers of a record or a snapshot.
func (r *removedSet) decode(b []byte) {
	for b = b[4:]; len(b) >= 8; b = b[8:] {
		for n, last := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:])); n <= last; n++ {
			r.add(uint32(n))
		}
	}
}

func (r *removedSet) add(numbers ...uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.numbers == nil {
		r.numbers = map[uint32]bool{}
	}
	for _, n := range numbers {
		r.numbers[n] = true
	}
}

func (r *removedSet) has(number uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.numbers[number]
}

// Remove removes segments that hold nothing that is needed. They must lie below KeepFrom. The log notes and syncs that they
// are removed before it removes the files, so that a file that is missing otherwise is damage. An error leaves some of the
// files, which the next opening removes.
func (l *Log) Remove(ctx context.Context, numbers ...uint32) error {
	keep := l.KeepFrom()
	var all []uint32
	for _, h := range l.segments.heads() {
		if slices.Contains(numbers, h.number) {
			if h.number >= keep.Segment() {
				return fmt.Errorf("seglog: segment %d is needed by the snapshot at %s", h.number, keep)
			}
			// The numbers between this segment and the one before it were never used, and are not missing either.
			for n := h.previous + 1; n <= h.number; n++ {
				all = append(all, n)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	body := encodeNumbers(all)
	pos := l.queue.append(kindRemoved, 0, body, l.seed.checksum(body))
	if err := l.WaitDurable(ctx, pos); err != nil {
		return err
	}
	l.removed.add(all...)
	for _, n := range numbers {
		if err := l.removeFile(n); err != nil {
			return err
		}
	}
	return l.o.FS.SyncDir(l.dir)
}

func (l *Log) removeFile(number uint32) error {
	if err := l.segments.remove(number); err != nil {
		return err
	}
	err := l.o.FS.Remove(l.path(segmentName(number)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
