// Package serve runs a streams server as a process: it opens the store, listens, refuses what is not safe, prints how the
// server can be used, and stops it.
package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"os"
	"time"

	"github.com/sequin-go/sequin/server"
)

// Config says what Run serves.
type Config struct {
	Version string

	Memory         bool          // keep everything in memory
	Postgres       string        // URL of a database; "" for none
	PostgresListen string        // URL of the database itself, where Postgres leads to a pooler; "" for none
	Dir            string        // of the store, unless Memory or Postgres
	SyncEvery      time.Duration // zero syncs before each answer
	MinFree        int64         // bytes of disk below which sends are refused; zero means the default of the store
	Compat         server.Compat // only with Memory

	Addr              string
	Token             string  // of the environment; "" for none
	Tokens            *Tokens // of a file, in place of Token; nil for none
	Insecure          bool    // an address that other machines can reach needs no token
	CertFile, KeyFile string  // "" for no TLS
	Console           bool    // serve the pages of the console
	Limits            server.Limits
	ShutdownTimeout   time.Duration

	Logger *slog.Logger
	Lookup func(string) (string, bool) // of an environment variable

	descriptors descriptors // set by Run
}

// Signals are the signals that a server gets.
type Signals struct {
	Stop   <-chan os.Signal // the first stops the server, and the second makes Run return at once
	Reload <-chan os.Signal // makes the server read the files of tokens and certificates again; nil for none
}

// hasToken reports whether clients need a token.
func (c *Config) hasToken() bool { return c.Token != "" || c.Tokens != nil }

// rights returns what a token may do, where clients need one.
func (c *Config) rights(token string) server.Rights {
	if c.Tokens != nil {
		return c.Tokens.Rights(token)
	}
	// The sums have one length, so that the time of the comparison does not depend on that of the token.
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(c.Token))
	if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
		return server.AllRights
	}
	return 0
}

// secret returns what only those know who know every token.
func (c *Config) secret() []byte {
	if c.Tokens != nil {
		return c.Tokens.sums()
	}
	sum := sha256.Sum256([]byte(c.Token))
	return sum[:]
}
