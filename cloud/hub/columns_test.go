package hub

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	porthttp "plantmesh/cloud/port/http"
)

// Columns that the other formats give, Parquet gives too: the envelope's, which
// the contract of a view leaves out, as well.
func TestParquet_HasTheColumnsOfOtherFormats(t *testing.T) {
	h := opened(t)
	web := httptest.NewServer(porthttp.New(porthttp.Config{}, h.deps(), quiet()))
	defer web.Close()
	for _, product := range []string{"signals", "oee", "coverage"} {
		for _, field := range []string{"", "is_final", "produced_at", "revision", "contract_version", "from_local", "nothing"} {
			var status [2]int
			for i, format := range []string{"csv", "parquet"} {
				url := web.URL + "/api/v1/products/" + product + "/rows?format=" + format
				if field != "" {
					url += "&fields=" + field
				}
				resp, err := http.Get(url)
				check(t, err)
				_, err = io.Copy(io.Discard, resp.Body)
				check(t, errors.Join(err, resp.Body.Close()))
				status[i] = resp.StatusCode
			}
			if status[0] != status[1] || (status[0] == http.StatusOK) == (field == "nothing") {
				t.Errorf("%s, %q: as CSV %d, as Parquet %d", product, field, status[0], status[1])
			}
		}
	}
}
