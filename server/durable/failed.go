package durable

import "sync"

// finalFailure is a failure after which the store answers nothing until it is opened again.
type finalFailure struct {
	happened chan struct{} // closed after it is set

	mu  sync.Mutex // guards err
	err error
}

func newFinalFailure() finalFailure { return finalFailure{happened: make(chan struct{})} }

// set notes the failure. It is called at most once.
func (f *finalFailure) set(err error) {
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
	close(f.happened)
}

// Failed returns a channel that is closed when the store has failed and answers nothing until it is opened again: a sync has
// failed, after which the system may have dropped what was written, or the state could not be read again. A failed write is
// no such failure. The program should close the store and end, or open it again.
func (st *Store) Failed() <-chan struct{} { return st.final.happened }

// Err returns why the store has failed, or nil while Failed is open.
func (st *Store) Err() error {
	st.final.mu.Lock()
	defer st.final.mu.Unlock()
	return st.final.err
}
