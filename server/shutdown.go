package server

import (
	"net/http"
	"sync"
)

// shutdowns tells when an http.Server that serves the handler shuts down. Its Shutdown waits for running requests and does
// not end their contexts. Without shutdowns it would wait until the long polls end. The zero value is ready for use.
type shutdowns struct {
	begun sync.Map // *http.Server to a chan struct{} that is closed when its Shutdown begins
}

// of returns a channel that is closed when the http.Server of the request begins its Shutdown. It is nil for a request that
// came from elsewhere.
func (s *shutdowns) of(r *http.Request) <-chan struct{} {
	web, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if web == nil {
		return nil
	}
	return s.watch(web)
}

// watch returns the channel of an http.Server. The first call registers a hook with the http.Server. An entry is kept after
// the Shutdown, because a request that was read before it may come late, and a hook that is registered then is not called.
func (s *shutdowns) watch(web *http.Server) <-chan struct{} {
	begun, known := s.begun.Load(web)
	if !known {
		begun, known = s.begun.LoadOrStore(web, make(chan struct{}))
	}
	if !known {
		// Shutdown may be called more than once, and calls the hook each time.
		web.RegisterOnShutdown(sync.OnceFunc(func() { close(begun.(chan struct{})) }))
	}
	return begun.(chan struct{})
}
