// Package storetest tests what every store of the documented behaviour promises: the contract of package store, row by
// row, then random operations compared with a naive model, then many goroutines at once.
//
// A store calls Run from a test of its own. The suite is not about what one store alone promises: speed, memory, what a
// crash leaves.
package storetest

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Config says how a store is opened and what it allows.
type Config struct {
	// Open returns an empty store. The suite closes it.
	Open func(testing.TB) store.Store
	// Reopen closes a store and opens it again; nil for a store that outlives no Close.
	Reopen func(testing.TB, store.Store) store.Store
	// RealTime says that the store looks at a clock that is not virtual in a synctest bubble, such as that of a database.
	// Tests in which time passes are then left out, and the others run outside of bubbles.
	RealTime bool
	// Except are the promises that the store does not keep. Their tests are left out.
	Except []string
	// Groups are the names of the groups that run, without the model; nil is all.
	Groups []string
	// Seeds is how many random runs each kind of stream gets in the model test; default 12.
	Seeds int
}

// test is a promise and what checks it.
type test struct {
	promise string
	check   func(*fixture)
	options store.StreamOptions
	limits  store.ConsumerLimits
	timed   bool // time passes
	reopens bool // the store is opened again
}

// group is a number of tests with a common subject.
type group struct {
	name  string
	tests []test
}

// Run runs the suite.
func Run(t *testing.T, cfg Config) {
	groups := []group{
		{"streams", streamTests}, {"consumers", consumerTests}, {"sends", sendTests}, {"retention", retentionTests},
		{"repeats", onceTests}, {"receives", receiveTests}, {"keys", keyTests}, {"leases", leaseTests}, {"delays", delayTests}, {"extensions", extendTests}, {"purges", purgeTests}, {"starts", startTests}, {"headers", headerTests}, {"views", viewTests}, {"measures", measureTests},
		{"answers", answerTests}, {"waits", waitTests}, {"ends", endTests}, {"copies", copyTests}, {"copies that fail", copyFaultTests}, {"reopening", reopenTests}, {"concurrency", concurrencyTests},
	}
	for _, promise := range cfg.Except {
		require.True(t, slices.ContainsFunc(groups, func(g group) bool {
			return slices.ContainsFunc(g.tests, func(tt test) bool { return tt.promise == promise })
		}), "Config.Except: no test has the promise %q", promise)
	}
	for _, name := range cfg.Groups {
		require.True(t, slices.ContainsFunc(groups, func(g group) bool { return g.name == name }), "Config.Groups: there is no group %q", name)
	}
	for _, g := range groups {
		if cfg.Groups != nil && !slices.Contains(cfg.Groups, g.name) {
			continue
		}
		t.Run(g.name, func(t *testing.T) {
			for _, tt := range g.tests {
				if cfg.allows(tt) {
					t.Run(tt.promise, func(t *testing.T) { cfg.run(t, tt) })
				}
			}
		})
	}
	if !cfg.RealTime && cfg.Groups == nil {
		t.Run("model", func(t *testing.T) { runModel(t, &cfg) })
	}
}

func (cfg *Config) allows(tt test) bool {
	return !(tt.timed && cfg.RealTime || tt.reopens && cfg.Reopen == nil || slices.Contains(cfg.Except, tt.promise))
}

func (cfg *Config) run(t *testing.T, tt test) {
	t.Helper()
	cfg.bubble(t, func(t *testing.T) { tt.check(newFixture(t, cfg, tt.options, tt.limits)) })
}

// bubble runs f in virtual time if the store allows it.
func (cfg *Config) bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if cfg.RealTime {
		f(t)
		return
	}
	synctest.Test(t, f)
}

// reversed returns a copy of s in reverse order.
func reversed[T any](s []T) []T {
	out := slices.Clone(s)
	slices.Reverse(out)
	return out
}
