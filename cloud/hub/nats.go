package hub

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"plantmesh/cloud/registry"
	"plantmesh/proto/wire"
)

const (
	// natsReady is how long the embedded server may take to come up; replaying
	// a large stream takes seconds.
	natsReady = 60 * time.Second
	// handshakeWithin bounds a caller's handshake: a small gateway on a slow link
	// takes a second.
	handshakeWithin = 5 * time.Second
)

// startNATS starts the embedded server in operator mode. Every stored message
// is fsynced before it is acknowledged: by default the server would wait two
// minutes. Accounts are asked of resolver from then on. Whoever calls over a socket does
// so by TLS.
func startNATS(ctx context.Context, c Config, reg *registry.Registry, resolver server.AccountResolver, log *slog.Logger) (*server.Server, error) {
	host, port, err := natsAt(ctx, c.NATS.Listen)
	if err != nil {
		return nil, err
	}
	webSocket, err := c.NATS.WebSocket.options(ctx, c.HTTP.Names, reg, log)
	if err != nil {
		return nil, err
	}
	// By the names that readers call the hub, beside that by which agents know it.
	certifier, err := reg.Certifier(time.Now, certified(&HTTPConfig{Names: c.HTTP.Names, Listen: c.NATS.Listen})...)
	if err != nil {
		return nil, err
	}
	trust := reg.Trust
	for key, token := range map[string]string{trust.PlantKey: trust.PlantJWT, trust.DomainKey: trust.DomainJWT, trust.SystemKey: trust.SystemJWT} {
		if err := resolver.Store(key, token); err != nil {
			return nil, fmt.Errorf("load account %s: %w", key, err)
		}
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "hub", Host: host, Port: port, NoSigs: true, MaxPayload: wire.MaxFrame, PingInterval: time.Duration(c.NATS.Ping),
		JetStream: true, StoreDir: filepath.Join(c.Data, natsFolder), SyncAlways: c.NATS.syncEvery == 0, SyncInterval: c.NATS.syncEvery, JetStreamMaxStore: int64(c.NATS.MaxStore),
		TLS: true, TLSConfig: certifier.Config(), TLSTimeout: handshakeWithin.Seconds(), Websocket: webSocket,
		TrustedOperators: []*jwt.OperatorClaims{trust.OperatorToken}, SystemAccount: trust.SystemKey, AccountResolver: resolver,
	})
	if err != nil {
		return nil, fmt.Errorf("set up nats: %w", err)
	}
	s.SetLoggerV2(newNATSLog(log), false, false, false)
	s.Start()
	if !s.ReadyForConnections(natsReady) {
		s.Shutdown()
		return nil, fmt.Errorf("nats did not come up on %s within %s", c.NATS.Listen, natsReady)
	}
	return s, nil
}

// free says why an address can't be listened on, before a library hides it.
func free(ctx context.Context, listen string) error {
	l, err := listenOn(ctx, listen)
	if err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	return nil
}

// connect joins the hub's own rooms to the embedded server without a socket, as a user of
// one of its accounts.
func connect(s *server.Server, as func() (token, seed string, err error)) (*nats.Conn, error) {
	token, seed, err := as()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.UserJWTAndSeed(token, seed), nats.Name("hub"), nats.MaxReconnects(-1))
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded nats: %w", err)
	}
	return nc, nil
}
