// Package house holds the tests that keep the system's shape: data travels
// from a device to a product in one direction, and the code lies in that order.
package house
