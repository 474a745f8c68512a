-- Loaded by HAProxy (haproxy.py): has HAProxy give a replica's answer as its own, and close the client's connection.
-- An answer that HAProxy only passes on leaves the connection open until the client has sent all of its body.
core.register_action("answer_and_close", {"http-res"}, function(txn)
    local reply = txn:reply({status = txn.f:status(), body = txn.f:res_body()})
    for name, values in pairs(txn.http:res_get_headers()) do
        for _, value in pairs(values) do
            reply:add_header(name, value)
        end
    end
    reply:del_header("content-length") -- HAProxy counts itself
    reply:add_header("connection", "close")
    txn:done(reply)
end)
