package transfer

import (
	"context"
	"fmt"
	"slices"

	"github.com/sequin-go/sequin/server/internal/store"
)

// pageMessages is how many messages are read and written at once. A page ends with the message with which it has
// store.MaxAnswerBytes.
const pageMessages = 2_000

// copy copies a stream, or the rest of it. The order of the last two steps makes a crash between them one after which the
// copy is complete: the mark of the source says so.
func (c *copies) copy(ctx context.Context, p *pair) (r StreamReport, err error) {
	c.progress.Stream = p.info.Name
	before := p.mark.State == store.CopyDone
	if !before {
		if err := c.copyContent(ctx, p); err != nil {
			return r, err
		}
		if err := p.source.SetCopyMark(ctx, store.CopyMark{State: store.CopyDone, Peer: p.target.ID()}); err != nil {
			return r, fmt.Errorf("mark it as copied: %w", err)
		}
	}
	if !p.ready {
		if err := p.target.SetCopyMark(ctx, store.CopyMark{}); err != nil {
			return r, fmt.Errorf("open the copy: %w", err)
		}
	}
	if before {
		c.step(int64(p.info.Messages))
	}
	info, err := p.source.Info(ctx)
	return StreamReport{p.info.Name, int64(info.Messages), info.Bytes, info.Consumers, before && p.ready}, err
}

func (c *copies) step(messages int64) {
	c.progress.Copied += messages
	c.report(c.progress)
}

func (c *copies) copyContent(ctx context.Context, p *pair) error {
	if p.target != nil && p.mark.State == store.NotCopied { // an earlier copy was given up: the stream may have changed since
		if err := p.target.Delete(ctx); err != nil {
			return fmt.Errorf("delete an earlier copy: %w", err)
		}
		p.target = nil
	}
	if p.target == nil {
		created, err := c.to.CreateCopy(ctx, p.info, p.source.ID())
		if err != nil {
			return fmt.Errorf("create the copy: %w", err)
		}
		p.target = created.(store.CopyableStream)
	}
	if err := p.source.SetCopyMark(ctx, store.CopyMark{State: store.CopySource, Peer: p.target.ID()}); err != nil {
		return fmt.Errorf("make it read-only: %w", err)
	}
	if err := c.copyMessages(ctx, p); err != nil {
		return fmt.Errorf("copy messages: %w", err)
	}
	if err := p.copySends(ctx); err != nil {
		return fmt.Errorf("copy idempotency keys: %w", err)
	}
	c.step(0)
	if err := c.copyConsumers(ctx, p); err != nil {
		return err
	}
	return p.compare(ctx)
}

// copyMessages copies the messages that the copy does not have yet.
func (c *copies) copyMessages(ctx context.Context, p *pair) error {
	next, err := p.target.NextSeq(ctx)
	if err != nil {
		return err
	}
	there, err := p.target.Info(ctx)
	if err != nil {
		return err
	}
	c.step(int64(there.Messages))
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		page, err := p.source.List(ctx, store.ListQuery{Limit: pageMessages, After: next - 1})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		next = page[len(page)-1].Seq + 1
		if !c.keepsHeaders && slices.ContainsFunc(page, func(m store.Message) bool { return m.Headers != "" }) {
			return ErrHeaders
		}
		if err := p.target.RestoreMessages(ctx, page, next); err != nil {
			return err
		}
		c.step(int64(len(page)))
	}
	if next, err = p.source.NextSeq(ctx); err != nil {
		return err
	}
	return p.target.RestoreMessages(ctx, nil, next)
}

func (p *pair) copySends(ctx context.Context) error {
	all, err := p.source.Sends(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	return p.target.RestoreSends(ctx, all)
}

// copyConsumers copies the consumers that the copy does not have yet.
func (c *copies) copyConsumers(ctx context.Context, p *pair) error {
	done := map[string]bool{}
	there, err := p.target.Consumers(ctx)
	if err != nil {
		return err
	}
	for _, o := range there {
		info, err := o.Info(ctx)
		if err != nil {
			return err
		}
		done[info.Name] = true
	}
	consumers, err := p.source.Consumers(ctx)
	if err != nil {
		return err
	}
	for _, o := range consumers {
		info, err := o.Info(ctx)
		if err == nil && !done[info.Name] {
			err = p.copyConsumer(ctx, o.(store.CopyableConsumer), info)
		}
		if err != nil {
			return fmt.Errorf("copy consumer %s: %w", info.Name, err)
		}
		c.step(0)
	}
	return nil
}

func (p *pair) copyConsumer(ctx context.Context, c store.CopyableConsumer, info store.ConsumerInfo) error {
	position, err := c.Position(ctx)
	if err != nil {
		return err
	}
	return p.target.RestoreConsumer(ctx, info, position)
}

// compare holds that the copy has as much as the stream.
func (p *pair) compare(ctx context.Context) error {
	source, err := p.source.Info(ctx)
	if err != nil {
		return err
	}
	target, err := p.target.Info(ctx)
	if err != nil {
		return err
	}
	if source.Messages != target.Messages || source.Bytes != target.Bytes || source.Consumers != target.Consumers {
		return fmt.Errorf("the copy has %d messages with %d bytes and %d consumers, and the stream %d, %d and %d: report this, and give the copy up",
			target.Messages, target.Bytes, target.Consumers, source.Messages, source.Bytes, source.Consumers)
	}
	return nil
}
