package durable

import (
	"context"
	"fmt"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/durable/internal/vfs"
)

// Backup writes a copy of the store in dir to the directory to, which must be empty or not exist and may not be inside dir, and
// checks it as Check does. Another process may use the store meanwhile, and goes on: the copy is the store as it was at a moment of
// the call, and has all that was answered before it. On one volume the copy shares the files that do not change any more, as
// hard links; a copy on another volume survives the loss of this one. A copy refuses the ack ids of deliveries that the store has made
// since, unless the store was opened 256 times in between. When the copy has faults the error says so, and the report
// has them. Backup reads dir and does not change it.
func Backup(ctx context.Context, dir, to string) (Report, error) {
	if inside(to, dir) {
		return Report{}, fmt.Errorf("%s is inside %s, which must not change", to, dir)
	}
	return backUp(ctx, dir, to, nil)
}

func backUp(ctx context.Context, dir, to string, fs vfs.FS) (Report, error) {
	if err := seglog.Backup(ctx, dir, to, fs); err != nil {
		return Report{}, err
	}
	report, err := check(ctx, to, fs)
	if err == nil && len(report.Faults) > 0 {
		err = fmt.Errorf("%w: the copy has %d faults, the first in %s: %s", ErrDamaged, len(report.Faults), report.Faults[0].File, report.Faults[0].Text)
	}
	return report, err
}
