package target

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/pflag"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// Flags are the flags that choose a server.
type Flags struct {
	url, context, tokenFile string
	set                     *pflag.FlagSet
}

// Register adds the flags to those of a command.
func (f *Flags) Register(flags *pflag.FlagSet) {
	f.set = pflag.NewFlagSet("server", pflag.ContinueOnError)
	f.set.StringVar(&f.url, "url", "", "`URL` of the server; default that of the context, or "+sequin.DefaultBaseURL)
	f.set.StringVar(&f.context, "context", "", "`name` of the context to use; default that of \"sequin context use\"")
	f.set.StringVar(&f.tokenFile, "token-file", "", "`file` with the token; default that of the context, or the token in $SEQUIN_TOKEN")
	cli.DocumentEnvironment(f.set)
	flags.AddFlagSet(f.set)
}

// Target is a server.
type Target struct {
	URL  string
	From string // what named the server, for people
	// TokenFrom says where the token comes from; "" for no token.
	TokenFrom string
	// Token returns the token, which is read again when the server refuses it; "" for none.
	Token func() (string, error)

	context bool // a context named the server
}

// Explain adds to the error of a server that refuses the token where the token comes from, or how to give one. Only the Target
// knows that.
func (t Target) Explain(err error) error {
	var api *sequin.APIError
	switch {
	case !errors.Is(err, sequin.ErrUnauthorized):
		return err
	case t.TokenFrom != "":
		return fmt.Errorf("%w: the token comes from %s", err, t.TokenFrom)
	case !errors.As(err, &api) || api.Status != http.StatusUnauthorized:
		return err // without a token 403 is about something else
	case t.context:
		return fmt.Errorf("%w: no token was given, and %s has none: give one with --token-file, or add it with %q", err, t.From, "sequin context add")
	}
	return fmt.Errorf("%w: no token was given: give one with --token-file or $%s", err, cli.TokenVariable)
}

// Find returns the server that the flags, the environment and the contexts choose. --url and --context win over their
// variables, and those win over the current context. A context has a token file of its own or no token: $SEQUIN_TOKEN is
// not sent to its server.
func (f *Flags) Find(lookup func(string) (string, bool)) (Target, error) {
	sources, err := cli.ReadEnvironment(f.set, lookup)
	if err != nil {
		return Target{}, err
	}
	useURL, useContext, err := sources.Choose("url", "context")
	if err != nil {
		return Target{}, err
	}
	t := Target{URL: f.url, From: "--url"}
	if sources["url"] == cli.Environment {
		t.From = "$SEQUIN_URL"
	}
	tokenFile := f.tokenFile
	inContext := false
	if !useURL {
		var c Context
		if c, t.From, inContext, err = f.find(useContext, lookup); err != nil {
			return Target{}, err
		}
		t.URL, t.context = c.URL, inContext
		if tokenFile == "" {
			tokenFile = c.TokenFile
		}
	}
	token, _ := lookup(cli.TokenVariable)
	switch {
	case tokenFile != "":
		t.TokenFrom, t.Token = tokenFile, fromFile(tokenFile)
	case token != "" && !inContext:
		t.TokenFrom, t.Token = "$"+cli.TokenVariable, func() (string, error) { return cli.CheckToken(token, "$"+cli.TokenVariable) }
	default:
		t.Token = noToken
	}
	return t, nil
}

func noToken() (string, error) { return "", nil }

func fromFile(file string) func() (string, error) {
	return func() (string, error) { return cli.ReadToken(file) }
}

// Check returns what is wrong with the URL or with the token file of a context. It makes no request.
func (c Context) Check() error {
	t := Target{URL: c.URL, Token: noToken}
	if c.TokenFile != "" {
		t.Token = fromFile(c.TokenFile)
	}
	client, err := t.Client(nil)
	if err == nil {
		client.Close()
	}
	return err
}

// find returns the context to use, or the default server. Without a home directory there are no contexts.
func (f *Flags) find(named bool, lookup func(string) (string, bool)) (c Context, from string, inContext bool, err error) {
	fallback := Context{URL: sequin.DefaultBaseURL}
	contexts, err := Load(lookup)
	if err != nil {
		if !named && cli.ExitCode(err) == cli.ExitUsage {
			return fallback, "the default", false, nil
		}
		return Context{}, "", false, err
	}
	name := contexts.Current
	if named {
		name = f.context
	}
	if name == "" {
		return fallback, "the default", false, nil
	}
	c, err = contexts.Get(name)
	return c, fmt.Sprintf("context %q", name), true, err
}

// Client returns a client of the server. It never reads the environment of the process. A nil transport means one with
// enough connections for a Publisher.
func (t Target) Client(transport http.RoundTripper) (*sequin.Client, error) {
	// A token that cannot be read is an error of the command, and not of each request.
	if _, err := t.Token(); err != nil {
		return nil, err
	}
	cfg := sequin.Config{
		BaseURL:     t.URL,
		TokenSource: func(context.Context) (string, error) { return t.Token() },
		UserAgent:   "sequin-cli/" + sequin.Version,
	}
	if transport != nil {
		cfg.HTTPClient = &http.Client{Transport: transport}
	}
	return sequin.NewClient(cfg)
}
