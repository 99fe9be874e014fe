// Package target finds the server that a command talks to: its URL and its token. It keeps the contexts, which are servers
// with names.
package target

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// Context is a server with a name.
type Context struct {
	URL       string `json:"url"`
	TokenFile string `json:"token_file,omitempty"` // "" for a server without a token
}

// Contexts are the contexts of a user.
type Contexts struct {
	Current  string             `json:"current,omitempty"` // "" for none
	Contexts map[string]Context `json:"contexts"`

	path string
}

// simpleName is the form of a context's name. A shell and a table show such a name as it is, and no flag looks like it.
var simpleName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$`)

// CheckName refuses the name of a new context that is not simple.
func CheckName(name string) error {
	if simpleName.MatchString(name) {
		return nil
	}
	return cli.Usage("invalid name %q of a context: use up to 63 letters, digits, underscores, dots and dashes, and begin with none of the last two", name)
}

// Load reads the contexts of the user. There are none when their file does not exist.
func Load(lookup func(string) (string, bool)) (*Contexts, error) {
	dir, err := cli.UserDir(lookup, "XDG_CONFIG_HOME", ".config")
	if err != nil {
		return nil, err
	}
	c := &Contexts{Contexts: map[string]Context{}, path: filepath.Join(dir, "contexts.json")}
	info, err := os.Stat(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the contexts: %w", err)
	}
	// Who can write the file decides to which server a token is sent.
	if cli.OthersMayUse(info) {
		return nil, fmt.Errorf("other users may read or change %s, mode %#o: run \"chmod 600 %s\"", c.path, info.Mode().Perm(), c.path)
	}
	text, err := os.ReadFile(c.path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the contexts: %w", err)
	}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w: mend or remove it", c.path, err)
	}
	if c.Contexts == nil {
		c.Contexts = map[string]Context{}
	}
	return c, nil
}

// Save writes the contexts to their file, which only the user may read.
func (c *Contexts) Save() error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := cli.ReplaceFile(c.path, append(text, '\n')); err != nil {
		return fmt.Errorf("cannot save the contexts: %w", err)
	}
	return nil
}

// Get returns the context with that name.
func (c *Contexts) Get(name string) (Context, error) {
	if found, ok := c.Contexts[name]; ok {
		return found, nil
	}
	return Context{}, cli.NotFound("there is no context %q: see \"sequin context ls\"", name)
}
