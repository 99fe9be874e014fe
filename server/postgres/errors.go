package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sequin-go/sequin/server/internal/store"
)

// isTransient reports whether an operation that failed with err can succeed when it is tried again: the connection was
// lost or could not be made, the database is restarted, or transactions were in each other's way.
func isTransient(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return !errors.Is(err, pgx.ErrNoRows) && !isOwn(err)
	}
	switch {
	case pg.Code == "40001", pg.Code == "40P01", pg.Code == "53300", strings.HasPrefix(pg.Code, "57P0"), strings.HasPrefix(pg.Code, "08"):
		return true
	case pg.Code == "25006": // read-only: the primary became a standby
		return true
	}
	return false
}

// isOwn reports whether err is one that the store contract names.
func isOwn(err error) bool {
	for _, own := range []error{
		store.ErrNoStream, store.ErrNoConsumer, store.ErrNoMessage, store.ErrNameTaken, store.ErrAmbiguous, store.ErrFull,
		store.ErrOtherBody, store.ErrTooManyWaiting, store.ErrClosed, store.ErrUnknown, store.ErrFailed, store.ErrDiskFull,
		store.ErrReadOnly, store.ErrDamaged, store.ErrCopying, errRefresh,
	} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// storeError makes an error of the database one of the contract.
func storeError(err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil || isOwn(err):
		return err
	case errors.As(err, &pg) && pg.Code == "53100":
		return fmt.Errorf("%w: %s", store.ErrDiskFull, oneLine(err))
	case errors.As(err, &pg) && pg.Code == "25006":
		return fmt.Errorf("%w: %s", store.ErrReadOnly, oneLine(err))
	}
	return fmt.Errorf("%w: %s", store.ErrFailed, oneLine(err))
}

// A backoff waits between two attempts.
type backoff struct{ wait time.Duration }

// The first wait is about that of a round trip, the longest is short beside a restart of the database.
const (
	firstBackoff = 5 * time.Millisecond
	lastBackoff  = 500 * time.Millisecond
)

// next waits. It returns false when ctx has ended.
func (b *backoff) next(ctx context.Context) bool {
	b.wait = min(max(2*b.wait, firstBackoff), lastBackoff)
	timer := time.NewTimer(b.wait/2 + rand.N(b.wait))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
