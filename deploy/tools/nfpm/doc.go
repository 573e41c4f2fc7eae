// Package nfpm pins the packager of releases in a module of its own: beside
// golangci-lint it would change what that is built from.
package nfpm
