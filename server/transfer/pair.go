package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sequin-go/sequin/server/internal/store"
)

// copies are the streams that one call copies.
type copies struct {
	to      store.Copyable // nil for a Cancel without one
	cancels bool

	keepsHeaders bool // to does
	pairs        []*pair
	progress     Progress
	report       func(Progress)
}

// pair is a stream and its copy.
type pair struct {
	source store.CopyableStream
	info   store.StreamInfo
	mark   store.CopyMark // of source
	target store.CopyableStream
	ready  bool // target is complete
}

// newCopies finds the streams, and the copies that are there already.
func newCopies(ctx context.Context, from, to store.Store, o Options, cancels bool) (*copies, error) {
	c := &copies{report: o.Progress, cancels: cancels}
	if c.report == nil {
		c.report = func(Progress) {}
	}
	source, ok := from.(store.Copyable)
	if c.to, _ = to.(store.Copyable); !ok || to != nil && c.to == nil {
		return nil, ErrUnsupported
	}
	_, c.keepsHeaders = to.(store.KeepsHeaders)
	if to != nil && from.ID() == to.ID() {
		return nil, errors.New("a store cannot be copied to itself: name another one")
	}
	streams, err := choose(ctx, source, o.Streams)
	if err != nil {
		return nil, err
	}
	for _, s := range streams {
		p, err := c.pair(ctx, s.(store.CopyableStream))
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", p.info.Name, err)
		}
		c.pairs = append(c.pairs, p)
		c.progress.Total += int64(p.info.Messages)
	}
	return c, nil
}

// choose returns the named streams, or all of them, oldest first.
func choose(ctx context.Context, from store.Store, refs []string) ([]store.Stream, error) {
	if len(refs) == 0 {
		all, err := from.Streams(ctx)
		slices.Reverse(all)
		return all, err
	}
	var chosen []store.Stream
	for _, ref := range refs {
		s, err := from.Stream(ctx, ref)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", ref, err)
		}
		if !slices.ContainsFunc(chosen, func(o store.Stream) bool { return o.ID() == s.ID() }) {
			chosen = append(chosen, s)
		}
	}
	return chosen, nil
}

// pair finds the copy of a stream, and checks that it is one. It returns the name of the stream also with an error.
func (c *copies) pair(ctx context.Context, source store.CopyableStream) (p *pair, err error) {
	p = &pair{source: source}
	if p.info, err = source.Info(ctx); err != nil {
		return p, err
	}
	if p.mark, err = source.CopyMark(ctx); err != nil {
		return p, err
	}
	if p.mark.State == store.CopyTarget {
		return p, ErrIncomplete
	}
	if c.to == nil {
		return p, nil
	}
	err = p.find(ctx, c.to)
	if c.cancels && p.mark.State == store.NotCopied && errors.Is(err, ErrTaken) {
		p.target, err = nil, nil // it has nothing to do with the stream
	}
	return p, err
}

// find finds the copy, if there is one.
func (p *pair) find(ctx context.Context, to store.Store) error {
	ref, missing := p.info.Name, error(nil)
	if p.mark.State != store.NotCopied {
		ref, missing = p.mark.Peer, ErrElsewhere
	}
	found, err := to.Stream(ctx, ref)
	if errors.Is(err, store.ErrNoStream) {
		return missing
	}
	if err != nil {
		return err
	}
	p.target = found.(store.CopyableStream)
	mark, err := p.target.CopyMark(ctx)
	switch {
	case err != nil:
		return err
	case mark == store.CopyMark{State: store.CopyTarget, Peer: p.source.ID()}:
		return nil
	case p.mark.State == store.CopyDone:
		p.ready = true
		return nil
	}
	return ErrTaken
}

// cancel makes the stream writable again, unless it is, or its copy is complete.
func (p *pair) cancel(ctx context.Context) (bool, error) {
	if p.ready {
		return false, nil
	}
	if p.target != nil {
		if err := p.target.Delete(ctx); err != nil && !errors.Is(err, store.ErrNoStream) {
			return false, err
		}
	}
	if p.mark.State == store.NotCopied {
		return false, nil
	}
	return true, p.source.SetCopyMark(ctx, store.CopyMark{})
}
