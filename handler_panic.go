package sequin

import (
	"cmp"
	"errors"
	"fmt"
	"runtime/debug"
)

// PanicError is a panic of a handler, or of DeadLetter.Key, as the error that it counts as.
type PanicError struct {
	// Value is what panic was called with.
	Value any
	// Stack is where it was called, as runtime/debug shows it.
	Stack []byte

	whose string // "" is the handler's
}

// recovered makes an error of what recover returned; nil is nil.
func recovered(whose string, v any) error {
	if v == nil {
		return nil
	}
	return &PanicError{Value: v, Stack: debug.Stack(), whose: whose}
}

// Error tells the value. The stack is logged, and in Stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("sequin: %s panicked: %v", cmp.Or(e.whose, "handler"), e.Value)
}

// Unwrap returns the value where it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errExited is a handler that called runtime.Goexit, as a test's FailNow does.
var errExited = errors.New("runtime.Goexit was called")

// apart calls a function of the program on a goroutine that it may panic on, or end: the caller's is one that others wait
// for. It returns the panic.
func apart(whose string, call func()) (crash error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { crash = recovered(whose, recover()) }()
		call()
	}()
	<-done
	return crash
}

// crashLog is what a log tells of an error: of a panic the stack too. The error may be the program's own: no method of it
// is called here.
func crashLog(key string, err error) []any {
	args := []any{"key", clip(key), "error", err}
	if crash, ok := err.(*PanicError); ok {
		args = append(args, "stack", string(crash.Stack))
	}
	return args
}
