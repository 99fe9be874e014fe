package durable

import (
	"context"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
)

// clean removes segments that hold nothing that is needed.
func (k *keeper) clean(ctx context.Context) error { return nil }

// move notes that the messages from first to last were copied to a record.
func (l *appendedLog) move(first, last int64, pos seglog.Pos, size int64) {}
