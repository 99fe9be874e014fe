package seglog

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/sequin-go/sequin/server/internal/store"
)

// removedSet are the segments that Remove has removed. This file takes its lock.
type removedSet struct {
	mu      sync.Mutex
	numbers map[uint32]bool
}

// encode returns the numbers as records and snapshots hold them: u32 each, ascending.
func (r *removedSet) encode() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []uint32
	for n := range r.numbers {
		all = append(all, n)
	}
	slices.Sort(all)
	return encodeNumbers(all)
}

func encodeNumbers(all []uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(all)))
	for _, n := range all {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// decode adds the numbers of a record or a snapshot.
func (r *removedSet) decode(b []byte) error {
	if len(b) < 4 || len(b) != 4+4*int(binary.LittleEndian.Uint32(b)) {
		return fmt.Errorf("%w: the list of removed segments", store.ErrDamaged)
	}
	for b = b[4:]; len(b) > 0; b = b[4:] {
		r.add(binary.LittleEndian.Uint32(b))
	}
	return nil
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

// Remove removes segments that hold nothing that is needed. They must lie below KeepFrom. The log notes and syncs that they
// are removed before it removes the files, so that a file that is missing otherwise is damage.
func (l *Log) Remove(ctx context.Context, numbers ...uint32) error {
	keep := l.KeepFrom()
	for _, n := range numbers {
		if n >= keep.Segment() {
			return fmt.Errorf("seglog: segment %d is needed by the snapshot at %s", n, keep)
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	pos := l.queue.append(kindRemoved, 0, encodeNumbers(numbers), l.seed.checksum(encodeNumbers(numbers)))
	if err := l.WaitDurable(ctx, pos); err != nil {
		return err
	}
	l.removed.add(numbers...)
	for _, n := range numbers {
		if err := l.segments.remove(n); err != nil {
			return err
		}
		if err := l.o.FS.Remove(l.path(segmentName(n))); err != nil {
			return err
		}
	}
	return l.o.FS.SyncDir(l.dir)
}
