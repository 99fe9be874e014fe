package sequin

import (
	"encoding/json"
	"errors"
	"fmt"
)

// permanent marks an error; see Permanent.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks a failure that no retry helps, such as data that cannot be read: returned by a handler, it sends the
// message to the dead letters at once. Without a [DeadLetter] the message is held back for BackoffMax each time. It
// keeps the error's text, errors.Is and errors.As; Permanent(nil) is nil.
//
// A batch handler that returns it for several messages does not say which is meant: each of them is then tried alone.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// isPermanent looks into an error of the program's own, whose methods may panic, as those of a typed nil do.
func isPermanent(err error) (yes bool) {
	defer func() { _ = recover() }()
	var p permanent
	return errors.As(err, &p)
}

// DecodeJSON decodes a delivery's data. The error is [Permanent]: the same data will never decode.
func DecodeJSON[T any](d Delivery) (T, error) {
	var v T
	if err := json.Unmarshal([]byte(d.Data), &v); err != nil {
		return v, Permanent(fmt.Errorf("sequin: decode %q into %T: %w", clip(d.Key), v, err))
	}
	return v, nil
}
