package sequin

import (
	"cmp"
	"errors"
	"fmt"
	"runtime/debug"
)

// PanicError is the error that a panic of a handler, or of DeadLetter.Key, counts as.
type PanicError struct {
	// Value is what panic was called with.
	Value any
	// Stack is the stack of the goroutine that panicked, as runtime/debug formats it.
	Stack []byte

	function string // the name of the function that panicked; "" is the handler
}

// recovered turns the result of recover into an error. It returns nil for nil.
func recovered(function string, v any) error {
	if v == nil {
		return nil
	}
	return &PanicError{Value: v, Stack: debug.Stack(), function: function}
}

// Error returns a text with the value. The stack is in Stack, and in the log.
func (e *PanicError) Error() string {
	return fmt.Sprintf("sequin: %s panicked: %v", cmp.Or(e.function, "handler"), e.Value)
}

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errExited is the Value of a handler that called runtime.Goexit, as a test's FailNow does.
var errExited = errors.New("runtime.Goexit was called")

// callApart runs a function of the program on a goroutine of its own and waits for it. The function may panic, or end its
// goroutine, without ending the caller's, which others depend on. callApart returns the panic.
func callApart(function string, call func()) (panicked error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recovered(function, recover()) }()
		call()
	}()
	<-done
	return panicked
}

// errorAttrs returns the log attributes of an error: the message's key, the error, and the stack of a panic. It calls no
// method of err, which may be of the program's own type.
func errorAttrs(key string, err error) []any {
	args := []any{"key", clip(key), "error", err}
	if panicked, ok := err.(*PanicError); ok {
		args = append(args, "stack", string(panicked.Stack))
	}
	return args
}
