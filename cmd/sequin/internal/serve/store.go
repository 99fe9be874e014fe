package serve

import (
	"errors"

	"github.com/sequin-go/sequin/server"
)

// opened is an open store.
type opened struct {
	use    func(*server.Config) // makes a server use it
	where  string               // describes to a person where the messages are
	policy string               // describes what survives
	failed <-chan struct{}      // closed when the store cannot go on; nil if that cannot be
	err    func() error         // why it cannot go on
	close  func() error
}

// openStore opens the store of the configuration.
func openStore(cfg *Config) (*opened, error) {
	if !cfg.Memory {
		return nil, errors.New("this version keeps messages in memory only: add --memory")
	}
	return &opened{
		use:    func(*server.Config) {},
		where:  "in memory, lost when the server stops",
		policy: "memory, as " + cfg.Compat.String(),
		close:  func() error { return nil },
	}, nil
}
