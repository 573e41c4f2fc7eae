package opcua

import (
	"os"
	"testing"

	"github.com/gopcua/opcua/schema"
)

// TestMain has the library's servers begin with an address space of one node: they
// read the whole of the standard's each, a second under the race detector, and what
// these tests ask for has handlers of its own.
func TestMain(m *testing.M) {
	schema.OpcUaNodeSet2 = []byte(`<UANodeSet><Aliases/><UAObject NodeId="i=2253" BrowseName="Server"><DisplayName>Server</DisplayName><References/></UAObject></UANodeSet>`)
	os.Exit(m.Run())
}
