package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// SeqAt implements store.ExtendedStream. Times do not go down while seqs go up, so that it searches by halves.
func (h *stream) SeqAt(ctx context.Context, at time.Time) (seq int64, err error) {
	err = h.st.query(ctx, func(s *session) error {
		top, err := h.st.readTop(s, h.row)
		if err != nil {
			return err
		}
		low, high := int64(1), top.next // rows that begin below low are older, and those from high on are not
		for low < high {
			middle := low + (high-low)/2
			first, stored, err := h.st.storedAt(s, h.row, middle)
			switch {
			case err != nil:
				return err
			case first == 0 || stored >= at.UnixMicro():
				high = middle
			default:
				low = first + 1
			}
		}
		seq, err = h.st.firstIn(s, h.row, low, top)
		return err
	})
	return seq, err
}

// storedAt returns the seq and the time of the first row from a seq on, or 0 when there is none.
func (st *Store) storedAt(s *session, row streamRow, seq int64) (first, at int64, err error) {
	text := chunkAtSQL
	if row.OneMessagePerKey {
		text = latestAtSQL
	}
	err = s.conn.QueryRow(s.ctx, st.q(text), row.id, seq).Scan(&first, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return first, at, err
}

// firstIn returns the seq of the first message in the rows that begin at a seq or later, or the next seq of the stream.
func (st *Store) firstIn(s *session, row streamRow, seq int64, top streamTop) (int64, error) {
	first, _, err := st.storedAt(s, row, seq)
	if err != nil || first == 0 {
		return top.next, err
	}
	if row.OneMessagePerKey {
		return first, nil
	}
	for from := max(first, top.trim); from > 0; {
		var sizes []sized
		if sizes, from, err = st.sizesFrom(s, row.id, from); err != nil {
			return 0, err
		}
		if len(sizes) > 0 {
			return sizes[0].seq, nil
		}
	}
	return top.next, nil
}
