package console

import (
	"errors"

	"github.com/sequin-go/sequin"
)

// searched is how many seqs are searched for the messages of one page whose keys match a pattern. A store on disk takes some 60 ms
// for them, so that a page of a stream with a million messages is as fast as any other. The page has a link to search further.
const searched = 100_000

// seqRange is the part of a stream that was searched. The zero value is all of it.
type seqRange struct {
	From, To int64
	next     int64 // where the next search begins; 0 if there is nothing more
}

// Partial reports whether there is more to search.
func (s seqRange) Partial() bool { return s.next > 0 }

// limitSearch bounds a query that has a pattern. first returns the seq of the first message in an order, or 0 for none.
func limitSearch(q *sequin.ListOptions, first func(sort string) (int64, error)) (s seqRange, err error) {
	newest, err := first(sequin.SortDescending)
	if err != nil {
		return s, err
	}
	oldest, err := first(sequin.SortAscending)
	if err != nil || oldest == 0 {
		return s, err
	}
	if q.Sort == sequin.SortDescending {
		if q.BeforeSeq == 0 {
			q.BeforeSeq = newest + 1
		}
		q.AfterSeq = max(0, q.BeforeSeq-1-searched)
		s = seqRange{From: max(oldest, q.AfterSeq+1), To: q.BeforeSeq - 1}
		if q.AfterSeq >= oldest {
			s.next = q.AfterSeq + 1
		}
		return s, nil
	}
	q.AfterSeq = max(q.AfterSeq, oldest-1)
	q.BeforeSeq = q.AfterSeq + searched + 1
	s = seqRange{From: q.AfterSeq + 1, To: min(newest, q.BeforeSeq-1)}
	if q.BeforeSeq <= newest {
		s.next = q.BeforeSeq - 1
	}
	return s, nil
}

// firstIn returns the seq of the first message of a stream in an order.
func (v *visit) firstIn(stream string) func(sort string) (int64, error) {
	return func(sort string) (int64, error) {
		found, err := v.client.ListMessages(v.r.Context(), stream, sequin.ListOptions{Limit: 1, Sort: sort})
		if err != nil || len(found) == 0 {
			return 0, err
		}
		return found[0].Seq, nil
	}
}

// firstUnsettled is firstIn of what a consumer has not settled, but the newest message is that of the stream.
func (v *visit) firstUnsettled(stream, consumer string) func(sort string) (int64, error) {
	return func(sort string) (int64, error) {
		if sort == sequin.SortDescending {
			return v.firstIn(stream)(sort)
		}
		found, err := v.client.PeekMessages(v.r.Context(), stream, consumer, sequin.ListOptions{Limit: 1})
		if err != nil || len(found) == 0 {
			return 0, err
		}
		return found[0].Message.Seq, nil
	}
}

// notPattern is what a person is told who has written something else into the field of a pattern.
const notPattern = "This is not a pattern: it is a key in which * stands for one token, and > at the end for one or more."

// isNoPattern reports whether an error means that.
func isNoPattern(err error) bool {
	return errors.Is(err, sequin.ErrInvalidPattern) || errors.Is(err, sequin.ErrValidation)
}
