// Devserver runs a Sequin streams server for programs in any language. It keeps everything in memory, and loses it when it
// stops.
//
//	go run ./examples/devserver -addr 127.0.0.1:7376
//
// It prints its URL and some requests to try. It stops on an interrupt.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/sequin-go/sequin/examples/internal/command"
	"github.com/sequin-go/sequin/server"
)

// stopWithin is how long a stop waits for running requests. Long polls are woken, and no other request takes long.
const stopWithin = 5 * time.Second

type options struct {
	addr   string
	public bool
	server server.Config
}

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(command.ExitCode(err)) // parse has printed the reason
	}
	os.Exit(devserver.Run(os.Stderr, func(ctx context.Context) error { return run(ctx, o, os.Stdout) }))
}

var devserver = command.Command{Name: "devserver", Usage: "[options]", About: `Runs a Sequin streams server for programs in any language. It keeps everything
in memory. If $SEQUIN_TOKEN is set, requests need that token.
`}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("devserver", flag.ContinueOnError)
	flags.StringVar(&o.addr, "addr", "127.0.0.1:7376", "listen on `HOST:PORT`; port 0 picks a free one")
	flags.BoolVar(&o.public, "public", false, "allow an address that other machines can reach")
	flags.StringVar(&o.server.Token, "token", "", "require this `TOKEN` of every request (default $SEQUIN_TOKEN)")
	flags.Func("compat", "behave as this `MODE`: documented (the default) or aug2024", func(name string) error {
		for _, compat := range []server.Compat{server.Documented, server.Aug2024} {
			if name == compat.String() {
				o.server.Compat = compat
				return nil
			}
		}
		return errors.New("want documented or aug2024")
	})
	if err := devserver.Parse(flags, args, stderr); err != nil {
		return o, err
	}
	if o.server.Token == "" {
		o.server.Token = os.Getenv(tokenVariable) // not the flag's default, which -h would print
	}
	return o, nil
}

const tokenVariable = "SEQUIN_TOKEN"

// run serves until ctx ends.
func run(ctx context.Context, o options, out io.Writer) error {
	listener, err := net.Listen("tcp", o.addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	if !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		if !o.public {
			return fmt.Errorf("%s can be reached from other machines: listen on 127.0.0.1, or use -public", listener.Addr())
		}
		fmt.Fprintf(out, "WARNING: other machines can reach this server, %s.\n", guard(o.server.Token))
	}
	o.server.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	srv := server.New(o.server)
	defer srv.Close()
	httpServer := srv.HTTPServer()
	served := make(chan error, 1)
	go func() { served <- httpServer.Serve(listener) }()
	printTour(out, "http://"+listener.Addr().String(), o.server)

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// Shutdown ends the long polls at once, and waits for the other requests.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	if err := httpServer.Shutdown(bounded); err != nil {
		_ = httpServer.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	fmt.Fprintln(out, "stopped")
	return nil
}

// guard says who can use a public server.
func guard(token string) string {
	if token == "" {
		return "and anyone there can use it: set $SEQUIN_TOKEN"
	}
	return "with the token, which others on the network can read"
}
