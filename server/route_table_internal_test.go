package server

import (
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryOperationHasARow holds that the table says for each operation what it needs, and names no shape twice.
func TestEveryOperationHasARow(t *testing.T) {
	rows, shapes := map[operation]int{}, 0
	for _, r := range routeTable {
		rows[r.op]++
		shapes += len(r.shapes)
		require.NotZero(t, r.needs, "%v", r.shapes)
		require.NotEmpty(t, r.shapes, "operation %d", r.op)
	}
	require.Len(t, routes, shapes, "a shape is there twice")
	require.Len(t, rows, int(operations)-1)
	require.NotContains(t, rows, noOperation)
	for op, n := range rows {
		require.Equal(t, 1, n, "operation %d", op)
	}
}

// TestSettlesAndReceivesAreTold holds that each of them, of streams and of sinks, has the memory and the refusals of its kind.
func TestSettlesAndReceivesAreTold(t *testing.T) {
	effects := map[string]effect{"receive": leases, "ack": settles, "nack": settles, "extend": settles, "end_receive": settles}
	for shape, f := range routes {
		require.Equal(t, effects[path.Base(shape)], f.effect, shape)
	}
}

// TestEveryRouteIsServed makes a request of every shape: none counts as one of no route.
func TestEveryRouteIsServed(t *testing.T) {
	var served string
	observe := func(i RequestInfo) { served = i.Route }
	documented, plug := New(Config{OnRequest: observe}), New(Config{Compat: Aug2024, OnRequest: observe})
	documented.Sink("x", SinkOptions{})
	for shape, f := range routes {
		s, want := documented, shape
		if f.api == pageAPI {
			s, want = plug, "GET /"
		}
		method, target, _ := strings.Cut(shape, " ")
		r := httptest.NewRequest(method, "/"+strings.ReplaceAll(target, "*", "x"), nil)
		r.Header.Set("Accept", "*/*")
		s.ServeHTTP(httptest.NewRecorder(), r)
		require.Equal(t, want, served)
	}
}
