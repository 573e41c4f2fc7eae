// Package tools pins the development tools in a module of their own, so that
// none of their dependencies reaches the product's go.mod.
package tools
