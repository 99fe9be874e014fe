package sequin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/sequin-go/sequin/internal/wire"
)

// checkedAnswer is an answer, or an element of one, that can check whether it is Sequin's. The JSON of another server
// decodes without an error, into zero values that look like an answer of Sequin.
type checkedAnswer interface{ complete() error }

// decodeJSON decodes an answer into v. It ignores unknown fields, which newer servers may send.
func decodeJSON(v checkedAnswer) func(http.Header, []byte) error {
	return func(_ http.Header, body []byte) error {
		if err := json.Unmarshal(body, v); err != nil {
			return err
		}
		return v.complete()
	}
}

// data is an answer of the form {"data":…}. An answer without the field is not Sequin's; taking it for an empty one would
// lose messages.
type data[T any] struct {
	Data *T `json:"data"`
}

func (d *data[T]) complete() error {
	if d.Data == nil {
		return wire.RequireField(false, "data")
	}
	if inner, ok := any(d.Data).(checkedAnswer); ok {
		return inner.complete()
	}
	return nil
}

// rows is the list in a data answer.
type rows[T any] []T

func (r *rows[T]) complete() error {
	for i := range *r {
		if row, ok := any(&(*r)[i]).(checkedAnswer); ok {
			if err := row.complete(); err != nil {
				return fmt.Errorf("row %d of its list: %w", i, err)
			}
		}
	}
	return nil
}

// deleted is the answer to a delete.
type deleted struct{ Deleted bool }

func (d *deleted) complete() error { return wire.RequireField(d.Deleted, "deleted") }

// looseTime is a time in an answer. It is zero, without an error, when it cannot be read.
type looseTime struct{ time.Time }

func (t *looseTime) UnmarshalJSON(text []byte) error {
	t.Time = wire.ParseTime(text)
	return nil
}
