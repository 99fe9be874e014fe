package postgres

import (
	"context"

	"github.com/sequin-go/sequin/server/internal/store"
)

// The methods with which streams of several replicas are copied.

var _ store.Copyable = (*replicas)(nil)

func (r *replicas) CreateCopy(ctx context.Context, info store.StreamInfo, of string) (store.Stream, error) {
	return r.stream(r.any().CreateCopy(ctx, info, of))
}

func (s *replicaStream) CopyMark(ctx context.Context) (store.CopyMark, error) {
	return s.any().CopyMark(ctx)
}

func (s *replicaStream) SetCopyMark(ctx context.Context, m store.CopyMark) error {
	return s.any().SetCopyMark(ctx, m)
}

func (s *replicaStream) NextSeq(ctx context.Context) (int64, error) { return s.any().NextSeq(ctx) }

func (s *replicaStream) RestoreMessages(ctx context.Context, m []store.Message, next int64) error {
	return s.any().RestoreMessages(ctx, m, next)
}

func (s *replicaStream) Sends(ctx context.Context) ([]store.RememberedSend, error) {
	return s.any().Sends(ctx)
}

func (s *replicaStream) RestoreSends(ctx context.Context, all []store.RememberedSend) error {
	return s.any().RestoreSends(ctx, all)
}

func (s *replicaStream) RestoreConsumer(ctx context.Context, info store.ConsumerInfo, p store.Position) error {
	return s.any().RestoreConsumer(ctx, info, p)
}

func (c *replicaConsumer) Position(ctx context.Context) (store.Position, error) {
	return c.any().Position(ctx)
}
