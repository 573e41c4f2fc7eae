package publish

// Built-in types, as Value.Type says them (OPC 10000-6, 5.1.2, Table 1).
const (
	TypeNull           = 0
	TypeBoolean        = 1
	TypeSByte          = 2
	TypeByte           = 3
	TypeInt16          = 4
	TypeUInt16         = 5
	TypeInt32          = 6
	TypeUInt32         = 7
	TypeInt64          = 8
	TypeUInt64         = 9
	TypeFloat          = 10
	TypeDouble         = 11
	TypeString         = 12
	TypeDateTime       = 13
	TypeGUID           = 14
	TypeByteString     = 15
	TypeXMLElement     = 16
	TypeNodeID         = 17
	TypeExpandedNodeID = 18
	TypeStatusCode     = 19
	TypeQualifiedName  = 20
	TypeLocalizedText  = 21
	TypeExtension      = 22
	TypeDataValue      = 23
	TypeVariant        = 24
	TypeDiagnostic     = 25
)
