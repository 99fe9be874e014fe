package serve

import "net"

// notifySystemd tells systemd the state of a service of Type=notify. Elsewhere it does nothing.
func notifySystemd(cfg *Config, state string) {
	socket, _ := cfg.Lookup("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	conn, err := net.Dial("unixgram", socket)
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close()
	}
	if err != nil {
		cfg.Logger.Warn("systemd could not be notified", "error", err)
	}
}
