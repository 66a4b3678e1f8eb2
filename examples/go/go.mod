module example.com/concord-client

go 1.26

require (
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260917190731-3f84f10f0b11
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)
