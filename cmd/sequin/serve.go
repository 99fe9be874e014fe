package main

import (
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/serve"
	"github.com/sequin-go/sequin/server"
)

// serveFlags are the flags of serve as they are given.
type serveFlags struct {
	data, sync           string
	postgres, listen     string
	memory, insecure     bool
	noConsole            bool
	minFree              cli.Size
	compat               string
	addr                 string
	tokenFile, cert, key string
	logFormat, logLevel  string
	shutdownTimeout      time.Duration

	limits               server.Limits
	requestBytes, flight cli.Size
}

const serveLong = `Run a streams server until an interrupt or SIGTERM stops it.

The messages are kept in the directory of --data. Without it that is
$XDG_DATA_HOME/sequin, or .local/share/sequin in the home directory.
It is created when it does not exist. One process at a time can use it.

With --postgres they are kept in a database, version 15 or newer, which any
number of servers can share. A password does not belong on the command line: put
the whole URL into $SEQUIN_POSTGRES, or the password into $PGPASSWORD or ~/.pgpass.

The server listens on 127.0.0.1 unless --addr says otherwise. An address that
other machines can reach needs a token: put it into a file for --token-file, or
into $SEQUIN_TOKEN. Clients send it as "Authorization: Bearer TOKEN". A file of
yours that other users may read is refused, as ssh refuses such a key.

The file has one token, which may do everything, or several, each on a line with
a name and its rights: read, send, consume, and admin, which creates, changes
and deletes streams and consumers. Each token may also read a stream and a
consumer by name, which clients do before they send or receive. Lines that begin
with # are comments.

  billing  consume,read  TOKEN
  web      send          TOKEN

SIGHUP makes the server read the file of --token-file and those of --tls-cert and
--tls-key again at once. Without it changes of a token are seen within a second,
and those of a certificate within a minute.

A browser shows the streams, what consumers have not settled and why, and messages
at /console, and can act on them. It asks for a token where clients need one: a person
may do what the token may.

GET /healthz and /readyz tell whether the server is up and ready. GET /metrics
has its metrics for Prometheus; unless the server listens on loopback, it needs
the token. A request that takes the server more than a second of its own work, waits
for messages and for the client left out, gets a warning in the log.`

func newServe(w world) *cobra.Command {
	f := &serveFlags{requestBytes: 8_000_000, flight: 256 << 20}
	cmd := &cobra.Command{
		Use:   "serve [flags]",
		Short: "Run a server",
		Long:  serveLong,
		Args:  arguments(0),
	}
	f.register(cmd.Flags())
	cli.DocumentEnvironment(cmd.Flags())
	for flag, words := range map[string][]string{
		"compat": {"documented", "aug2024"}, "log-level": {"debug", "info", "warn", "error"}, "log-format": {"text", "json"},
	} {
		must(cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := f.config(cmd.Flags(), w)
		if err != nil {
			return err
		}
		return serve.Run(cfg, w.out, serve.Signals{Stop: w.signals, Reload: w.hangups()})
	}
	return cmd
}

// register defines the flags in the order of the help text.
func (f *serveFlags) register(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&f.data, "data", "", "`directory` for the messages; see above for the default")
	flags.StringVar(&f.postgres, "postgres", "", "`URL` of a Postgres database for the messages, in place of --data; any number of servers can use one")
	flags.StringVar(&f.listen, "postgres-listen", "", "`URL` of the database itself where that of --postgres leads to a pooler such as PgBouncer: waiting receives hear of messages at once, and not after up to 300 ms")
	flags.BoolVar(&f.memory, "memory", false, "keep the messages in memory, and lose them when the server stops")
	flags.StringVar(&f.sync, "sync", "always", "when data is synced to the disk: always, which is before each answer, or a `duration` such as 100ms, which a power failure can lose")
	flags.Var(&f.minFree, "min-free", "refuse sends while the disk has less `space` left (default the smaller of 1GiB and 5%)")
	flags.StringVar(&f.compat, "compat", "documented", "`behaviour` of the API: documented, or aug2024 for that of the server of August 2024 (with --memory)")
	flags.StringVar(&f.addr, "addr", "127.0.0.1:7376", "`host:port` to listen on; port 0 picks a free one")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the token or tokens that clients need; it is read again when it changes; default the token in $SEQUIN_TOKEN, or none")
	flags.StringVar(&f.cert, "tls-cert", "", "`file` with the certificate chain, for HTTPS; it is read again when it changes")
	flags.StringVar(&f.key, "tls-key", "", "`file` with the key of the certificate")
	flags.BoolVar(&f.insecure, "insecure", false, "serve on an address that other machines can reach without a token")
	flags.BoolVar(&f.noConsole, "no-console", false, "serve no pages for a browser below /console")
	flags.StringVar(&f.logFormat, "log-format", "text", "`format` of the log on the standard error: text or json")
	flags.StringVar(&f.logLevel, "log-level", "info", "lowest `level` that is logged: debug, info, warn or error; debug has a line for each request")
	flags.DurationVar(&f.shutdownTimeout, "shutdown-timeout", 10*time.Second, "how long a stop may take; requests that still run then are cut off")
	flags.IntVar(&f.limits.Connections, "max-connections", 10_000, "`number` of connections at once; requests on further ones are answered 503")
	flags.Var(&f.requestBytes, "max-request-bytes", "`size` of a request's body; a larger one is answered 413")
	flags.DurationVar(&f.limits.HeaderTime, "header-timeout", 10*time.Second, "how long the header of a request may take to arrive")
	flags.DurationVar(&f.limits.IdleTime, "idle-timeout", 2*time.Minute, "how long a connection without a request is kept")
	flags.IntVar(&f.limits.Waiting, "max-waiting", 1_000, "`number` of receives of one consumer that wait at once; a further one is answered 429")
	flags.IntVar(&f.limits.Streams, "max-streams", 10_000, "`number` of streams; the request for a further one is answered 422")
	flags.Var(&f.flight, "max-bytes-in-flight", "`size` of all requests and answers in memory at once; beyond it requests are answered 429, but acks have an eighth beside")
}

// config checks the flags and their environment variables and returns the configuration of the server.
func (f *serveFlags) config(flags *pflag.FlagSet, w world) (serve.Config, error) {
	sources, err := cli.ReadEnvironment(flags, w.lookup)
	if err != nil {
		return serve.Config{}, err
	}
	cfg := serve.Config{
		Version: sequin.Version, Addr: f.addr, Insecure: f.insecure, CertFile: f.cert, KeyFile: f.key, Console: !f.noConsole,
		ShutdownTimeout: f.shutdownTimeout, Limits: f.limits, Lookup: w.lookup,
	}
	cfg.Limits.RequestBytes, cfg.Limits.BytesInFlight = int(f.requestBytes), int64(f.flight)
	return cfg, errors.Join(
		f.setLog(&cfg, w),
		f.setStore(&cfg, sources, w),
		f.setToken(&cfg, w),
		f.checkLimits(),
		pair(f.cert, f.key),
	)
}

func (f *serveFlags) setStore(cfg *serve.Config, sources cli.Sources, w world) error {
	if !f.memory {
		delete(sources, "memory")
	}
	useData, useMemory, err := sources.Choose("data", "memory")
	if err != nil {
		return err
	}
	usePostgres, err := f.choosePostgres(sources)
	if err != nil {
		return err
	}
	cfg.Memory = useMemory && !usePostgres
	switch f.compat {
	case server.Documented.String():
	case server.Aug2024.String():
		cfg.Compat = server.Aug2024
		if !cfg.Memory {
			return cli.Usage("--compat aug2024 works with --memory only: add --memory")
		}
	default:
		return cli.Usage("invalid --compat %q: want documented or aug2024", f.compat)
	}
	if err := f.setSync(cfg); err != nil {
		return err
	}
	cfg.MinFree = int64(f.minFree)
	switch {
	case usePostgres:
		cfg.Postgres, cfg.PostgresListen = f.postgres, f.listen
		if sources["postgres-listen"] == cli.CommandLine {
			err = refusePassword(f.listen, "--postgres-listen", postgresListenVariable)
		}
		return errors.Join(err, refuseDisk(sources, "postgres"))
	case sources["postgres-listen"] == cli.CommandLine:
		return cli.Usage("--postgres-listen does nothing without --postgres: leave it out")
	case cfg.Memory:
		return refuseDisk(sources, "memory")
	case useData:
		cfg.Dir = f.data
		return nil
	}
	cfg.Dir, err = defaultDir(w.lookup)
	return err
}

// choosePostgres reports whether --postgres counts, and not --data or --memory.
func (f *serveFlags) choosePostgres(sources cli.Sources) (use bool, err error) {
	if sources["postgres"] == cli.Default {
		return false, nil
	}
	for _, other := range []string{"data", "memory"} {
		if _, use, err = sources.Choose(other, "postgres"); err != nil || !use {
			return false, err
		}
	}
	if sources["postgres"] == cli.CommandLine {
		if err := refusePassword(f.postgres, "--postgres", postgresVariable); err != nil {
			return false, err
		}
	}
	return true, nil
}

// refuseDisk refuses flags that are about a directory.
func refuseDisk(sources cli.Sources, store string) error {
	for _, flag := range []string{"sync", "min-free"} {
		if sources[flag] == cli.CommandLine {
			return cli.Usage("--%s does nothing with --%s: leave one of them out", flag, store)
		}
	}
	return nil
}

func (f *serveFlags) setSync(cfg *serve.Config) (err error) {
	if f.sync == "always" {
		return nil
	}
	cfg.SyncEvery, err = time.ParseDuration(f.sync)
	if err != nil || cfg.SyncEvery <= 0 {
		return cli.Usage("invalid --sync %q: want always, or a duration such as 100ms", f.sync)
	}
	return nil
}

func (f *serveFlags) setToken(cfg *serve.Config, w world) (err error) {
	if f.tokenFile != "" {
		cfg.Tokens, err = serve.ReadTokens(f.tokenFile, cfg.Logger)
		return err
	}
	token, _ := w.lookup(cli.TokenVariable)
	if token == "" {
		return nil
	}
	cfg.Token, err = cli.CheckToken(token, "$"+cli.TokenVariable)
	return err
}

func (f *serveFlags) setLog(cfg *serve.Config, w world) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return cli.Usage("invalid --log-level %q: want debug, info, warn or error", f.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		cfg.Logger = slog.New(slog.NewTextHandler(w.errors, options))
	case "json":
		cfg.Logger = slog.New(slog.NewJSONHandler(w.errors, options))
	default:
		return cli.Usage("invalid --log-format %q: want text or json", f.logFormat)
	}
	return nil
}

func (f *serveFlags) checkLimits() error {
	for _, limit := range []struct {
		flag  string
		value int64
	}{
		{"max-connections", int64(f.limits.Connections)}, {"max-waiting", int64(f.limits.Waiting)}, {"max-streams", int64(f.limits.Streams)},
		{"header-timeout", int64(f.limits.HeaderTime)}, {"idle-timeout", int64(f.limits.IdleTime)}, {"shutdown-timeout", int64(f.shutdownTimeout)},
	} {
		if limit.value <= 0 {
			return cli.Usage("invalid --%s: it must be above 0", limit.flag)
		}
	}
	if f.requestBytes > maxRequestBytes {
		return cli.Usage("invalid --max-request-bytes %v: at most %d", &f.requestBytes, maxRequestBytes)
	}
	if f.flight < f.requestBytes {
		return cli.Usage("invalid --max-bytes-in-flight %v: it must be at least --max-request-bytes, %v", &f.flight, &f.requestBytes)
	}
	return nil
}

// maxRequestBytes is the largest limit of a body. A body is in memory as a whole, and so is a message.
const maxRequestBytes = 1 << 30

// pair checks that both files of TLS are given, or none.
func pair(cert, key string) error {
	if (cert == "") != (key == "") {
		return cli.Usage("--tls-cert and --tls-key belong together: give both")
	}
	return nil
}
