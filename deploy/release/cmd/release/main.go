// Command release makes the packages; `make release` calls it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"plantmesh/deploy/release"
)

func main() {
	o := release.Options{Root: ".", Log: os.Stdout}
	flag.StringVar(&o.Out, "out", "dist", "folder for the packages; it is emptied first")
	flag.StringVar(&o.NFPM, "nfpm", ".cache/nfpm", "the packager's program")
	flag.Func("arch", "only for this processor: amd64, arm64 or armv7; may stand several times", func(name string) error {
		o.Arches = append(o.Arches, name)
		return nil
	})
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := release.Run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}
