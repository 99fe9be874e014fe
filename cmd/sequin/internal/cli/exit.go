// Package cli has what all commands share: exit codes, flags that the environment can set, and sizes in bytes.
package cli

import (
	"errors"
	"fmt"
	"strings"
)

// The exit codes of every command.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2 // an unknown command or flag, or a value that is not allowed
	ExitNotFound    = 3
	ExitUnreachable = 4 // the server cannot be reached
)

// codedError is an error with an exit code of its own.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// Usage returns an error that exits with ExitUsage.
func Usage(format string, args ...any) error {
	return &codedError{ExitUsage, fmt.Errorf(format, args...)}
}

// NotFound returns an error that exits with ExitNotFound.
func NotFound(format string, args ...any) error {
	return &codedError{ExitNotFound, fmt.Errorf(format, args...)}
}

// Failed returns err with ExitFailed, where it would have the code of wrong usage because the client library refuses the arguments of
// a call that the user did not choose. It is nil for nil.
func Failed(err error) error {
	if ExitCode(OfClient(err)) != ExitUsage {
		return err
	}
	return &codedError{ExitFailed, err}
}

// Unreachable returns err with ExitUnreachable.
func Unreachable(err error) error { return &codedError{ExitUnreachable, err} }

// ExitCode returns the exit code of what a command returned: ExitFailed for an error without a code.
func ExitCode(err error) int {
	var coded *codedError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &coded):
		return coded.code
	}
	return ExitFailed
}

// inFlags replaces the names of the client library's settings by those of flags.
var inFlags = strings.NewReplacer(
	"invalid config: BaseURL", "--url", "Config.BaseURL", "--url",
	"invalid argument: BatchSize is", "--number is", "invalid argument: WaitFor is", "--wait is", "invalid argument: Limit is", "--limit is",
	"invalid argument: ConsumerOptions.AckWait is", "--ack-wait is",
)

// Line returns the text of an error as one line, for the standard error. Errors of the client library have the prefix already, and
// name a field where the command has a flag.
func Line(err error) string {
	text := strings.TrimPrefix(textOf(err), "sequin: ")
	text = inFlags.Replace(text)
	return "sequin: " + strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
